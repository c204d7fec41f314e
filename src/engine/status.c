// SPDX-License-Identifier: MIT
// The public status codes are the library's own, under public names.
#include "engine/status.h"

#include <stdio.h>
#include <time.h>

_Static_assert((int)IV_ERR_FAIL == ERR_FAIL && (int)IV_ERR_USAGE == ERR_USAGE &&
                   (int)IV_ERR_MODEL == ERR_MODEL && (int)IV_ERR_MEDIA == ERR_MEDIA &&
                   (int)IV_ERR_LIMIT == ERR_LIMIT && (int)IV_ERR_NETWORK == ERR_NETWORK &&
                   (int)IV_ERR_PARTIAL == ERR_PARTIAL && (int)IV_ERR_ABORT == ERR_ABORT,
               "public and internal codes agree");
_Static_assert((int)IV_LOG_ERROR == LOG_ERROR && (int)IV_LOG_DEBUG == LOG_DEBUG,
               "log levels agree");

int status_out(int rc, const struct err *e, struct iv_error *out)
{
    if (out) {
        out->code = rc;
        snprintf(out->message, sizeof out->message, "%s", rc != 0 ? e->msg : "");
    }
    return rc;
}

static void forward_log(void *user, enum log_level level, const char *line)
{
    const struct iv_callbacks *cb = user;
    if (cb->log)
        cb->log(cb->user, (enum iv_log_level)level, line);
}

static void forward_progress(void *user, const char *stage, size_t done, size_t total)
{
    const struct iv_callbacks *cb = user;
    if (cb->progress)
        cb->progress(cb->user, stage, done, total);
}

static bool forward_abort(void *user)
{
    const struct iv_callbacks *cb = user;
    return cb->abort && cb->abort(cb->user);
}

struct hooks callback_hooks(const struct iv_callbacks *cb)
{
    return (struct hooks){.user = (void *)(uintptr_t)cb,
                          .log = forward_log,
                          .progress = forward_progress,
                          .abort = forward_abort}; // *cb may get its abort later: segments are
                                                   // decoded under the session's
}

void callback_stage(const struct iv_callbacks *cb, const char *name, const char *dtype,
                    const void *data, const size_t *dim, unsigned n_dim)
{
    if (cb->stage)
        cb->stage(cb->user, name, dtype, data, dim, n_dim);
}

static void forward_tap(void *user, const char *name, const float *data, const size_t *dim,
                        unsigned rank)
{
    callback_stage(user, name, "f32", data, dim, rank);
}

struct tap callback_tap(const struct iv_callbacks *cb)
{
    return (struct tap){.user = (void *)(uintptr_t)cb, .fn = cb->stage ? forward_tap : NULL};
}

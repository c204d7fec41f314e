// SPDX-License-Identifier: MIT
// `info --verify`: every weight is a finite number, and the SHA-256 of every file. Names, shapes and
// types were checked when the model was opened.
#include <math.h>
#include <stdio.h>

#include "base/sha256.h"
#include "base/size.h"
#include "engine/engine.h"

enum {
    CHUNK = 4096,   // elements converted at a time
    POLL = 1 << 20, // elements between two looks at abort
};

static size_t count_of(const struct tensor *t)
{
    return t->bytes / dtype_block_bytes(t->dtype) * dtype_block(t->dtype);
}

// Index of the first NaN or infinity of t, or t's element count; stops when asked to.
static size_t first_bad(const struct tensor *t, const struct hooks *hooks)
{
    float x[CHUNK];
    size_t n = count_of(t);
    if (t->dtype != DT_F32 && t->dtype != DT_F16 && t->dtype != DT_BF16 &&
        !dtype_is_block(t->dtype))
        return n;
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t m = min_size(CHUNK, n - i);
        dtype_to_f32(x, (const char *)t->data + dtype_span(t->dtype, i), t->dtype, m);
        if (i % POLL == 0 && hooks_abort(hooks))
            return n;
        float sum = 0; // 0 * x is 0 for every finite x, NaN otherwise
        for (size_t k = 0; k < m; k++)
            sum += 0.0f * x[k];
        if (sum == 0.0f)
            continue;
        for (size_t k = 0; k < m; k++)
            if (!isfinite(x[k]))
                return i + k;
    }
    return n;
}

static void tell(void (*report)(void *user, const char *line), void *user, const char *line)
{
    if (report)
        report(user, line);
}

int iv_engine_verify(const iv_engine *g, void (*report)(void *user, const char *line), void *user,
                     struct iv_error *error)
{
    struct err e = {0};
    char line[ERR_MSG_MAX], hex[SHA256_TEXT];
    size_t n_bad = 0;
    int rc = 0;
    const struct weights *w = g->model.weights;
    struct hooks hooks = callback_hooks(&g->callbacks);
    if (!w)
        return status_out(err_set(&e, ERR_USAGE, "the engine was opened without weights"), &e,
                          error);
    for (size_t i = 0; i < weights_count(w); i++) {
        const struct tensor *t = weights_at(w, i);
        size_t at = first_bad(t, &hooks);
        if (at < count_of(t)) {
            snprintf(line, sizeof line, "%s: element %zu is not finite", t->name, at);
            tell(report, user, line);
            if (n_bad++ == 0)
                err_set(&e, ERR_MODEL, "%s", line);
        }
        hooks_progress(&hooks, "verify", i + 1, weights_count(w));
        if (hooks_abort(&hooks))
            return status_out(err_set(&e, ERR_ABORT, "stopped"), &e, error);
    }
    for (size_t i = 0; i < weights_file_count(w); i++) {
        size_t bytes;
        const char *path = weights_file_at(w, i, &bytes);
        TRY(sha256_file(path, ERR_MODEL, &hooks, hex, &e));
        snprintf(line, sizeof line, "%s  %s (%zu bytes)", hex, path, bytes);
        tell(report, user, line);
    }
    if (n_bad > 0)
        TRY(err_set(&e, ERR_MODEL, "%zu tensors hold values that are not finite, the first %s",
                    n_bad, e.msg));
fail:
    return status_out(rc, &e, error);
}

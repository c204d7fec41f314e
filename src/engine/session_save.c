// SPDX-License-Identifier: MIT
// Conversations on disk.
#include "engine/session.h"

int iv_session_save(iv_session *s, const char *path, struct iv_error *error)
{
    struct err e = {0};
    (void)s;
    return status_out(err_set(&e, ERR_FAIL, "%s: not written", path), &e, error);
}

int iv_session_load(const iv_engine *engine, const char *path, const struct iv_session_options *o,
                    iv_media **media, iv_session **out, struct iv_error *error)
{
    struct err e = {0};
    (void)engine, (void)o;
    *media = NULL;
    *out = NULL;
    return status_out(err_set(&e, ERR_FAIL, "%s: cannot be read", path), &e, error);
}

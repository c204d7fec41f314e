// SPDX-License-Identifier: MIT
// A media encoded ahead of its questions, in memory and on disk, by way of a conversation without turns.
#include "engine/engine.h"
#include "engine/session.h"

int iv_media_encode(iv_media *media, const char *instruction, struct iv_error *error)
{
    struct err e = {0};
    struct encode_request r = {
        .instruction = instruction, .cb = &media->callbacks, .use_cache = true};
    struct encode_times t;
    int rc = media_lock(media, &media->callbacks, &e);
    if (rc == 0) {
        rc = media_encode(media, &r, &t, &e);
        pthread_mutex_unlock(&media->lock);
    }
    return status_out(rc, &e, error);
}

int iv_media_save(iv_media *media, const char *instruction, const char *path,
                  struct iv_error *error)
{
    struct iv_session_options o = iv_session_options_default();
    iv_session *s;
    o.instruction = instruction;
    o.callbacks = media->callbacks;
    int rc = iv_session_open(media->engine, media, &o, &s, error);
    if (rc == IV_OK)
        rc = iv_session_save(s, path, error);
    iv_session_close(s);
    return rc;
}

int iv_media_load(const iv_engine *engine, const char *path, const struct iv_callbacks *callbacks,
                  iv_media **out, struct iv_error *error)
{
    struct iv_session_options o = iv_session_options_default();
    struct err e = {0};
    iv_session *s;
    if (callbacks)
        o.callbacks = *callbacks;
    int rc = iv_session_load(engine, path, &o, out, &s, error);
    iv_session_close(s);
    if (rc == IV_OK && !*out)
        rc =
            status_out(err_set(&e, ERR_USAGE, "%s: a conversation without media", path), &e, error);
    return rc;
}

// SPDX-License-Identifier: MIT
// A media encoded ahead of its questions, in memory and on disk, by way of a conversation without turns.
#include "base/size.h"
#include "engine/engine.h"
#include "engine/session.h"

// Before hours of work on what no conversation can hold.
static int check_room(const iv_media *media, struct err *e)
{
    const iv_engine *g = media->engine;
    size_t n, most = runner_ctx_most(g);
    if (g->tokenizer_only ||
        (mul_size(media->info.n_clip, g->config.qformer.n_query, &n) && n <= most))
        return 0;
    return err_set(e, ERR_LIMIT, "%s: %zu clips of %zu rows, a conversation holds %zu",
                   media->path ? media->path : "the media", media->info.n_clip,
                   g->config.qformer.n_query, most);
}

int iv_media_encode(iv_media *media, const char *instruction, struct iv_error *error)
{
    struct err e = {0};
    struct encode_request r = {
        .instruction = instruction, .cb = &media->callbacks, .use_cache = true};
    struct encode_times t;
    int rc = check_room(media, &e);
    if (rc == 0)
        rc = media_lock(media, &media->callbacks, &e);
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
    struct err e = {0};
    iv_session *s;
    int rc = check_room(media, &e);
    if (rc != 0)
        return status_out(rc, &e, error);
    o.n_ctx = runner_ctx_most(media->engine);
    o.instruction = instruction;
    o.callbacks = media->callbacks;
    rc = iv_session_open(media->engine, media, &o, &s, error);
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

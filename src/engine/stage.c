// SPDX-License-Identifier: MIT
// iv_media_stage: what an encoding leaves at each of its stages, copied for the caller.
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"

// A copy of n floats for the caller.
static int copy_stage(const float *src, size_t n, float **out, struct err *e)
{
    size_t bytes;
    *out = mul_size(n, sizeof *src, &bytes) ? mem_calloc(n, sizeof *src) : NULL;
    if (!*out)
        return err_set(e, ERR_LIMIT, "stage: out of memory for %zu values", n);
    memcpy(*out, src, bytes);
    return 0;
}

static int check_stage(const iv_media *m, enum iv_stage stage, struct err *e)
{
    if ((unsigned)stage > IV_STAGE_PROJECTED)
        return err_set(e, ERR_USAGE, "stage %d is unknown", (int)stage);
    bool early = stage == IV_STAGE_PIXELS || stage == IV_STAGE_VIT;
    if (early && m->info.n_segment > 0)
        return err_set(e, ERR_USAGE, "this stage is made of one segment at a time");
    if (m->restored && stage != IV_STAGE_PROJECTED)
        return err_set(e, ERR_USAGE, "the media was restored without its frames");
    return 0;
}

int iv_media_stage(iv_media *media, enum iv_stage stage, const char *instruction, float **data,
                   size_t dim[6], unsigned *n_dim, struct iv_error *error)
{
    struct err e = {0};
    const struct model_config *c = &media->engine->config;
    const struct iv_media_info *info = &media->info;
    size_t n_query = c->qformer.n_query, side = c->vit.image_size, n = 1;
    size_t shape[4][6] = {{1, info->n_clip, media->clip_frames, 3, side, side},
                          {info->n_clip, vit_tokens(&c->vit, media->clip_frames), c->vit.d_model},
                          {info->n_clip, n_query, c->qformer.d_model},
                          {info->n_clip * n_query, c->llm.d_model}};
    static const unsigned rank[4] = {6, 3, 3, 2};
    struct encode_request request = {.instruction = instruction,
                                     .cb = &media->callbacks,
                                     .use_cache = true,
                                     .vit = stage == IV_STAGE_VIT,
                                     .queries = stage == IV_STAGE_QFORMER};
    struct encode_times times;
    *data = NULL;
    *n_dim = 0;
    memset(dim, 0, sizeof shape[0]);
    int rc = check_stage(media, stage, &e);
    if (rc == 0)
        rc = media_lock(media, &media->callbacks, &e);
    if (rc != 0)
        return status_out(rc, &e, error);
    for (unsigned i = 0; i < rank[stage]; i++)
        n *= shape[stage][i];
    if (stage != IV_STAGE_PIXELS)
        TRY(media_encode(media, &request, &times, &e));
    const float *src[4] = {media->pixels, media->vit, media->queries,
                           media->rows ? media->rows->v : NULL};
    TRY(copy_stage(src[stage], n, data, &e));
    memcpy(dim, shape[stage], sizeof shape[stage]);
    *n_dim = rank[stage];
fail:
    pthread_mutex_unlock(&media->lock);
    return status_out(rc, &e, error);
}

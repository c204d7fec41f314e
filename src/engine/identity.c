// SPDX-License-Identifier: MIT
// Keys: everything a result depends on is written one after the other, each with its length or as a
// number, into one SHA-256.
//
//   rows = f(model, precision and kernels, library version and build, media bytes, frames chosen,
//            preprocessing, instruction ids)
//
// Easy to get wrong: kernels of another instruction set round differently, and another FFmpeg may decode
// differently, so both are part of the key; without them an answer could depend on what ran before. Of a cold disk
// the model's identity takes seconds: it is worked out without the lock, by each caller under its own abort, rather
// twice than by one whom the others wait for.
#include "engine/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/size.h"

enum {
    SAMPLE = 4096, // bytes of a tensor: of both ends and of the middle of each stretch
    STRETCH = 1 << 20,
    PIECE = 1 << 20, // floats between two looks at abort
};

struct identity {
    pthread_mutex_t lock;
    bool known;
    uint8_t digest[SHA256_BYTES];
};

int identity_open(struct identity **out, struct err *e)
{
    *out = mem_calloc(1, sizeof **out);
    if (!*out)
        return err_set(e, ERR_LIMIT, "model identity: out of memory");
    pthread_mutex_init(&(*out)->lock, NULL);
    return 0;
}

void identity_close(struct identity *i)
{
    if (!i)
        return;
    pthread_mutex_destroy(&i->lock);
    mem_free(i);
}

static int add_text(struct sha256 *s, const char *text, struct err *e)
{
    return sha256_add(s, text, strlen(text) + 1, e);
}

static int add_number(struct sha256 *s, uint64_t v, struct err *e)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, v);
    return add_text(s, text, e);
}

static int add_ids(struct sha256 *s, const int32_t *v, size_t n, struct err *e)
{
    int rc;
    TRY(add_number(s, n, e));
    TRY(sha256_add(s, v, n * sizeof *v, e));
fail:
    return rc;
}

static int add_config(struct sha256 *s, const struct model_config *c, struct err *e)
{
    char text[512];
    const struct llm_config *l = &c->llm;
    snprintf(
        text, sizeof text,
        "%d %zu %zu %zu %zu %zu %zu %zu %zu %.17g %.17g %zu %.9g %u %.9g | %zu %zu %zu %zu %zu "
        "%zu | %zu %zu %zu %zu %.9g",
        (int)l->kind, l->d_model, l->n_layer, l->n_head, l->n_kv, l->d_head, l->d_ffn, l->n_vocab,
        l->n_ctx_max, l->rope_theta, l->ntk_factor, l->ntk_from, (double)l->eps, l->lora_r,
        (double)l->lora_alpha, c->vit.d_model, c->vit.n_head, c->vit.n_layer, c->vit.image_size,
        c->vit.patch, c->vit.d_ffn, c->qformer.d_model, c->qformer.n_head, c->qformer.n_layer,
        c->qformer.n_query, (double)c->qformer.eps);
    return add_text(s, text, e);
}

// A sample may have to come from a disk: abort is polled before each.
static int add_sample(struct sha256 *s, const struct tensor *t, size_t from, size_t n,
                      const struct hooks *hooks, struct err *e)
{
    if (hooks_abort(hooks))
        return err_set(e, ERR_ABORT, "stopped while the model was identified");
    return sha256_add(s, (const char *)t->data + from, n, e);
}

static int add_tensor(struct sha256 *s, const struct tensor *t, const struct hooks *hooks,
                      struct err *e)
{
    int rc;
    TRY(add_text(s, t->name, e));
    TRY(add_number(s, (uint64_t)t->dtype, e));
    for (unsigned i = 0; i < t->rank; i++)
        TRY(add_number(s, t->dim[i], e));
    if (t->bytes <= 3 * SAMPLE)
        return add_sample(s, t, 0, t->bytes, hooks, e);
    TRY(add_sample(s, t, 0, SAMPLE, hooks, e));
    for (size_t at = 0; at < t->bytes; at += STRETCH) {
        size_t stretch = min_size(STRETCH, t->bytes - at), n = min_size(stretch, SAMPLE);
        TRY(add_sample(s, t, at + (stretch - n) / 2, n, hooks, e));
    }
    TRY(add_sample(s, t, t->bytes - SAMPLE, SAMPLE, hooks, e));
fail:
    return rc;
}

static int work_out(const iv_engine *g, const struct hooks *hooks, uint8_t digest[SHA256_BYTES],
                    struct err *e)
{
    struct sha256 s = {0};
    int rc;
    TRY(sha256_begin(&s, e));
    TRY(add_config(&s, &g->config, e));
    for (size_t i = 0; i < weights_count(g->model.weights); i++)
        TRY(add_tensor(&s, weights_at(g->model.weights, i), hooks, e));
    TRY(sha256_end(&s, digest, e));
fail:
    sha256_drop(&s);
    return rc;
}

int engine_identity(const iv_engine *g, const struct hooks *hooks, uint8_t digest[SHA256_BYTES],
                    struct err *e)
{
    struct identity *i = g->identity;
    int rc;
    pthread_mutex_lock(&i->lock);
    bool known = i->known;
    memcpy(digest, i->digest, SHA256_BYTES);
    pthread_mutex_unlock(&i->lock);
    if (known)
        return 0;
    TRY(work_out(g, hooks, digest, e));
    pthread_mutex_lock(&i->lock);
    memcpy(i->digest, digest, SHA256_BYTES);
    i->known = true;
    pthread_mutex_unlock(&i->lock);
fail:
    return rc;
}

static int add_computation(struct sha256 *s, const iv_engine *g, const struct hooks *hooks,
                           struct err *e)
{
    uint8_t model[SHA256_BYTES] = {0};
    int rc;
    if (cache_on_disk(g->cache)) // in memory there is only this engine's model
        TRY(engine_identity(g, hooks, model, e));
    TRY(sha256_add(s, model, sizeof model, e));
    TRY(add_text(s, iv_version(), e));
    TRY(add_text(s, iv_build_info(), e));
    TRY(add_text(s, g->tier, e));
    TRY(add_number(s, (uint64_t)g->compute, e));
    TRY(add_number(s, (uint64_t)g->config.variant, e));
fail:
    return rc;
}

static int add_preprocessing(struct sha256 *s, const struct clips_options *o, struct err *e)
{
    char text[128];
    snprintf(text, sizeof text, "mode %d hd %d padding %d fix %dx%d antialias %d", (int)o->mode,
             o->hd_num, o->padding, o->fix_cols, o->fix_rows, o->antialias);
    return add_text(s, text, e);
}

int identity_of_rows(const iv_engine *g, const struct rows_source *r, const struct hooks *hooks,
                     struct cache_key *key, struct err *e)
{
    struct sha256 s = {0};
    int rc;
    TRY(sha256_begin(&s, e));
    TRY(add_text(&s, "visual rows", e));
    TRY(add_computation(&s, g, hooks, e));
    TRY(sha256_add(&s, r->content, SHA256_BYTES, e));
    TRY(add_number(&s, r->pixels, e));
    TRY(add_number(&s, r->image, e));
    TRY(add_preprocessing(&s, r->options, e));
    TRY(add_number(&s, r->n_clip, e));
    TRY(add_ids(&s, r->frame_index, r->n_frame, e));
    TRY(add_ids(&s, r->text, r->n_text, e));
    TRY(sha256_end(&s, key->digest, e));
fail:
    sha256_drop(&s);
    return rc;
}

int identity_of_floats(const float *v, size_t n, const struct hooks *hooks,
                       uint8_t digest[SHA256_BYTES], struct err *e)
{
    struct sha256 s = {0};
    int rc;
    TRY(sha256_begin(&s, e));
    for (size_t i = 0; i < n; i += PIECE) {
        if (hooks_abort(hooks))
            TRY(err_set(e, ERR_ABORT, "stopped on request"));
        TRY(sha256_add(&s, v + i, min_size(PIECE, n - i) * sizeof *v, e));
    }
    TRY(sha256_end(&s, digest, e));
fail:
    sha256_drop(&s);
    return rc;
}

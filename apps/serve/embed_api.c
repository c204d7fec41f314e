// SPDX-License-Identifier: MIT
// POST /v1/embeddings: what the model has of a video instead of words, pooled to one vector or query by query.
//
//   input (or messages): media as in a chat | stage: projected, qformer | pooling: mean, none | encoding_format

#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "modeljob.h"
#include "routes.h"
#include "work.h"

struct features {
    float *data; // f32 [rows, width]
    size_t rows, width;
};

// Sums in double, row by row, divides once.
static float *mean(const struct features *f)
{
    double *sum = heap_calloc(f->width, sizeof *sum);
    float *out = heap_calloc(f->width, sizeof *out);
    for (size_t i = 0; sum && out && i < f->rows; i++) {
        for (size_t k = 0; k < f->width; k++)
            sum[k] += (double)f->data[i * f->width + k];
    }
    for (size_t k = 0; sum && out && k < f->width; k++)
        out[k] = (float)(sum[k] / (double)f->rows);
    heap_free(sum);
    if (!sum) {
        heap_free(out);
        return NULL;
    }
    return out;
}

static bool put_vector(const float *v, size_t n, bool base64, struct json_writer *w)
{
    if (!base64) {
        jw_array(w, "embedding");
        for (size_t i = 0; i < n; i++)
            jw_real(w, NULL, (double)v[i]);
        jw_end(w);
        return true;
    }
    char *text = heap_calloc(4 * ((n * sizeof *v + 2) / 3) + 1, 1);
    if (text) { // little-endian, as every machine this runs on
        base64_encode((const uint8_t *)v, n * sizeof *v, text);
        jw_text(w, "embedding", text);
    }
    heap_free(text);
    return text != NULL;
}

static bool put_data(const struct modeljob *m, const struct features *f, struct json_writer *w)
{
    bool pooled = m->number & 1, ok = true;
    float *one = pooled ? mean(f) : NULL;
    if (pooled && !one)
        return false;
    jw_array(w, "data");
    for (size_t i = 0; i < (pooled ? 1 : f->rows) && ok; i++) {
        jw_object(w, NULL);
        jw_text(w, "object", "embedding");
        jw_count(w, "index", i);
        ok = put_vector(pooled ? one : f->data + i * f->width, f->width, m->flag, w);
        jw_end(w);
    }
    jw_end(w);
    heap_free(one);
    return ok;
}

static int embed_work(struct modeljob *m)
{
    struct media_entry *e;
    struct features f = {0};
    struct iv_error error = {0};
    struct json_writer w;
    size_t dim[6];
    unsigned n_dim;
    bool found;
    if (modeljob_media(m, &e, &found) != 0)
        return -1;
    int rc = mediacache_stage(e, m->number & 2 ? IV_STAGE_QFORMER : IV_STAGE_PROJECTED,
                              m->q.instruction, &m->job, &f.data, dim, &n_dim, &error);
    if (rc == IV_OK) {
        f.width = dim[n_dim - 1];
        f.rows = n_dim == 3 ? dim[0] * dim[1] : dim[0];
        jw_begin(&w);
        jw_text(&w, "object", "list");
        jw_text(&w, "model", iv_engine_info(m->server->engine)->name);
        bool ok = put_data(m, &f, &w);
        jw_object(&w, "usage");
        jw_count(&w, "prompt_tokens", f.rows);
        jw_count(&w, "total_tokens", f.rows);
        jw_end(&w);
        jw_object(&w, "video");
        work_media_members(mediacache_view(e).media, m->from.shown, &w);
        jw_end(&w);
        m->body = jw_take(&w);
        m->n_body = m->body ? strlen(m->body) : 0;
        rc = ok && m->body ? IV_OK : IV_ERR_LIMIT;
    }
    iv_free(f.data);
    mediacache_drop(e);
    return rc == IV_OK ? 0 : modeljob_failed(m, rc, &error);
}

static int word(const struct chatreq *c, const char *key, const char *const *words, int *out,
                struct refusal *r)
{
    const char *text = words[0];
    if (field_text(c->json, key, 32, &text, r) != 0)
        return -1;
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return 0;
        }
    }
    return refuse(r, 400, "invalid_value", key, "%s: expected %s or %s", key, words[0], words[1]);
}

void embeddings_handle(struct request *q, struct reply *p)
{
    static const char *const formats[] = {"float", "base64", NULL};
    static const char *const poolings[] = {"mean", "none", NULL};
    static const char *const stages[] = {"projected", "qformer", NULL};
    struct refusal r;
    struct chatreq c;
    struct sources from;
    struct modeljob *m = NULL;
    int format, pooling, stage, rc = chatreq_read_media(&c, q->body, q->n_body, &r);
    if (rc != 0) {
        reply_refusal(p, &r, q->server);
        return;
    }
    if (word(&c, "encoding_format", formats, &format, &r) == 0 &&
        word(&c, "pooling", poolings, &pooling, &r) == 0 &&
        word(&c, "stage", stages, &stage, &r) == 0 &&
        field_unsupported(c.json, "dimensions", &r) == 0 && sources_open(&from, q, &c, &r) == 0) {
        m = modeljob_new(q, &c, &from, embed_work, &r);
        if (!m)
            sources_drop(&from);
    }
    if (!m) {
        chatreq_free(&c);
        reply_refusal(p, &r, q->server);
        return;
    }
    m->flag = format == 1;
    m->number = (pooling == 0) | stage << 1;
    modeljob_answer(m, q, p);
}

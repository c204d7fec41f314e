// SPDX-License-Identifier: MIT
// BERT encoder with learned queries in front of the text: post-norm layers, self-attention over queries
// and text together, cross-attention to the clip from the query rows of every second layer, separate
// feed-forward weights for query rows and text rows. (SPEC 5; BLIP-2's Q-Former)
//
//   x = LN([query_tokens ; extra_query_tokens ; word(ids) + position])
//   a = LN(dense(attention(x)) + x)
//   a[queries] = LN(dense(attention(a[queries], vision)) + a[queries])        layers 0, 2, 4 ...
//   x = [LN(ffn_query(a[queries])) ; LN(ffn_text(a[text]))]
//
// Easy to get wrong: queries get no position; text positions start at 0; no mask and no token types;
// every LayerNorm has eps 1e-12. Clips never see each other: side by side (where the backend gains by many rows) each is
// a sequence of its own.
#include "model/qformer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "model/dims.h"

#define QF(f)       offsetof(struct qformer, f)
#define LAYER(f)    offsetof(struct qformer_layer, f)
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
// Layers on the Q-Former's own rows: little work, and half of what int8 would cost the answer in accuracy.
#define FINE (BIND_BIAS | BIND_FINE)

static const struct bind_row qformer_rows[] = {
    {"query_tokens", BIND_TENSOR, 0, QF(query_tokens), 3, {DIM_1, DIM_QUERY, DIM_QF}},
    {"extra_query_tokens",
     BIND_TENSOR,
     0,
     QF(extra_query_tokens),
     3,
     {DIM_1, DIM_QUERY_EXTRA, DIM_QF}},
    {"qformer.bert.embeddings.word_embeddings.weight",
     BIND_TENSOR,
     0,
     QF(word),
     2,
     {DIM_QF_VOCAB, DIM_QF}},
    {"qformer.bert.embeddings.position_embeddings.weight",
     BIND_TENSOR,
     0,
     QF(position),
     2,
     {DIM_QF_POS, DIM_QF}},
    {"qformer.bert.embeddings.LayerNorm.weight", BIND_TENSOR, 0, QF(norm.w), 1, {DIM_QF}},
    {"qformer.bert.embeddings.LayerNorm.bias", BIND_TENSOR, 0, QF(norm.b), 1, {DIM_QF}},
    {"qformer.bert.embeddings.position_ids", BIND_UNUSED, BIND_OPTIONAL, 0, 2, {DIM_1, DIM_QF_POS}},
    {"project_up", BIND_LINEAR, FINE, QF(project_up), 2, {DIM_LLM, DIM_QF}},
    // trained for a loss that inference does not have
    {"project_down.weight", BIND_UNUSED, BIND_OPTIONAL, 0, 2, {DIM_QF, DIM_LLM}},
    {"project_down.bias", BIND_UNUSED, BIND_OPTIONAL, 0, 1, {DIM_QF}},
};

static const struct bind_row layer_rows[] = {
    {"attention.self.query", BIND_LINEAR, FINE, LAYER(self.query), 2, {DIM_QF, DIM_QF}},
    {"attention.self.key", BIND_LINEAR, FINE, LAYER(self.key), 2, {DIM_QF, DIM_QF}},
    {"attention.self.value", BIND_LINEAR, FINE, LAYER(self.value), 2, {DIM_QF, DIM_QF}},
    {"attention.output.dense", BIND_LINEAR, FINE, LAYER(self.dense), 2, {DIM_QF, DIM_QF}},
    {"attention.output.LayerNorm.weight", BIND_TENSOR, 0, LAYER(self.norm.w), 1, {DIM_QF}},
    {"attention.output.LayerNorm.bias", BIND_TENSOR, 0, LAYER(self.norm.b), 1, {DIM_QF}},
    {"intermediate_query.dense", BIND_LINEAR, FINE, LAYER(query.up), 2, {DIM_QF_FFN, DIM_QF}},
    {"output_query.dense", BIND_LINEAR, FINE, LAYER(query.down), 2, {DIM_QF, DIM_QF_FFN}},
    {"output_query.LayerNorm.weight", BIND_TENSOR, 0, LAYER(query.norm.w), 1, {DIM_QF}},
    {"output_query.LayerNorm.bias", BIND_TENSOR, 0, LAYER(query.norm.b), 1, {DIM_QF}},
    {"intermediate.dense", BIND_LINEAR, FINE, LAYER(text.up), 2, {DIM_QF_FFN, DIM_QF}},
    {"output.dense", BIND_LINEAR, FINE, LAYER(text.down), 2, {DIM_QF, DIM_QF_FFN}},
    {"output.LayerNorm.weight", BIND_TENSOR, 0, LAYER(text.norm.w), 1, {DIM_QF}},
    {"output.LayerNorm.bias", BIND_TENSOR, 0, LAYER(text.norm.b), 1, {DIM_QF}},
};

static const struct bind_row cross_rows[] = {
    {"crossattention.self.query", BIND_LINEAR, FINE, LAYER(cross.query), 2, {DIM_QF, DIM_QF}},
    {"crossattention.self.key", BIND_LINEAR, BIND_BIAS, LAYER(cross.key), 2, {DIM_QF, DIM_VIT}},
    {"crossattention.self.value", BIND_LINEAR, BIND_BIAS, LAYER(cross.value), 2, {DIM_QF, DIM_VIT}},
    {"crossattention.output.dense", BIND_LINEAR, FINE, LAYER(cross.dense), 2, {DIM_QF, DIM_QF}},
    {"crossattention.output.LayerNorm.weight", BIND_TENSOR, 0, LAYER(cross.norm.w), 1, {DIM_QF}},
    {"crossattention.output.LayerNorm.bias", BIND_TENSOR, 0, LAYER(cross.norm.b), 1, {DIM_QF}},
};

int qformer_bind(struct qformer *q, const struct qformer_config *c, struct binder *b, struct err *e)
{
    int rc;
    memset(q, 0, sizeof *q);
    q->c = *c;
    q->layer = mem_calloc(c->n_layer, sizeof *q->layer);
    if (!q->layer)
        return err_set(e, ERR_LIMIT, "Q-Former: out of memory for %zu layers", c->n_layer);
    TRY(bind_rows(b, qformer_rows, COUNT(qformer_rows), "", q, e));
    tensor_drop_batch(&q->query_tokens);
    tensor_drop_batch(&q->extra_query_tokens);
    for (size_t i = 0; i < c->n_layer; i++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "qformer.bert.encoder.layer.%zu.", i);
        TRY(bind_rows(b, layer_rows, COUNT(layer_rows), prefix, &q->layer[i], e));
        if (i % c->cross_every == 0)
            TRY(bind_rows(b, cross_rows, COUNT(cross_rows), prefix, &q->layer[i], e));
    }
    return 0;
fail:
    qformer_free(q);
    return rc;
}

void qformer_free(struct qformer *q)
{
    mem_free(q->layer);
    memset(q, 0, sizeof *q);
}

static void norm(struct ops *o, const struct qformer *q, struct mat x, const struct qformer_norm *n)
{
    op_layer_norm(o, x, x, &n->w, &n->b, q->c.eps);
}

// x = LN(dense(attention(x, source)) + x), both of n_clip clips, each by itself
static void attend(struct ops *o, const struct qformer *q, const struct qformer_attention *a,
                   struct mat x, struct mat source, size_t n_clip)
{
    size_t mark = ops_mark(o), d = q->c.d_model, d_head = d / q->c.n_head;
    struct mat query = ops_act(o, x.rows, d), ctx = ops_act(o, x.rows, d);
    struct mat key_value = ops_act(o, source.rows, 2 * d);
    struct mat key = mat_cols(key_value, 0, d), value = mat_cols(key_value, d, d);
    op_linear(o, query, x, &a->query);
    op_linears(o, key_value, &(struct linear_input){.kind = INPUT_ROWS, .x = source},
               (const struct linear *[]){&a->key, &a->value}, 2);
    op_attention(o, ctx,
                 &(struct attention){.q = query,
                                     .k = key,
                                     .v = value,
                                     .n_seq = n_clip,
                                     .n_head = q->c.n_head,
                                     .n_kv = q->c.n_head,
                                     .d_head = d_head,
                                     .scale = (float)(1.0 / sqrt((double)d_head))});
    op_linear_add(o, x, &(struct linear_input){.kind = INPUT_ROWS, .x = ctx}, &a->dense, NULL);
    norm(o, q, x, &a->norm);
    ops_pop(o, mark);
}

// x = LN(down(gelu(up(x))) + x)
static void feed_forward(struct ops *o, const struct qformer *q, const struct qformer_ffn *f,
                         struct mat x)
{
    size_t mark = ops_mark(o);
    struct mat h = ops_act(o, x.rows, q->c.d_ffn);
    op_linear(o, h, x, &f->up);
    op_linear_add(o, x, &(struct linear_input){.kind = INPUT_GELU, .x = h}, &f->down, NULL);
    norm(o, q, x, &f->norm);
    ops_pop(o, mark);
}

// Every clip begins alike.
static void embed(struct ops *o, const struct qformer *q, const struct qformer_input *in,
                  struct mat all)
{
    size_t base = q->c.n_query_base, extra = q->c.n_query_extra, n = q->c.n_query + in->n_text;
    struct mat x = mat_rows(all, 0, n);
    op_embed(o, mat_rows(x, 0, base), &q->query_tokens, NULL);
    op_embed(o, mat_rows(x, base, extra), &q->extra_query_tokens, NULL);
    if (in->n_text > 0) {
        size_t mark = ops_mark(o);
        struct mat text = mat_rows(x, q->c.n_query, in->n_text);
        struct mat pos = ops_mat(o, in->n_text, q->c.d_model);
        op_embed(o, text, &q->word, in->text);
        op_embed(o, pos, &q->position, NULL);
        op_add(o, text, pos);
        ops_pop(o, mark);
    }
    norm(o, q, x, &q->norm);
    for (size_t i = n; i < all.rows; i += n)
        op_copy(o, mat_rows(all, i, n), x);
}

// Rows [from, from + n) of each clip of x, which has `clip` rows of each: themselves where they lie together, else a
// copy that part_return takes back.
struct part {
    struct mat rows, place, copy;
};

static struct part part_take(struct ops *o, struct mat x, size_t clip, size_t from, size_t n)
{
    size_t n_clip = x.rows / clip;
    struct part p = {0};
    if (n_clip == 1 || n == clip) {
        p.rows = mat_rows(x, from, n_clip * n);
        return p;
    }
    p.rows = ops_mat(o, n_clip * n, x.cols);
    p.place = mat_groups(x, clip, from, n);
    p.copy = mat_groups(p.rows, n, 0, n);
    op_copy(o, p.copy, p.place);
    return p;
}

static void part_return(struct ops *o, const struct part *p)
{
    if (p->copy.rows > 0)
        op_copy(o, p->place, p->copy);
}

// x and vision: of n_clip clips.
static void layer_forward(struct ops *o, const struct qformer *q, size_t l, struct mat x,
                          struct mat vision, size_t n_clip)
{
    const struct qformer_layer *w = &q->layer[l];
    size_t n_query = q->c.n_query, clip = x.rows / n_clip, mark = ops_mark(o);
    attend(o, q, &w->self, x, x, n_clip);
    struct part queries = part_take(o, x, clip, 0, n_query);
    if (l % q->c.cross_every == 0)
        attend(o, q, &w->cross, queries.rows, vision, n_clip);
    feed_forward(o, q, &w->query, queries.rows);
    part_return(o, &queries);
    ops_pop(o, mark);
    if (clip == n_query || l + 1 == q->c.n_layer) // nothing reads the last layer's text rows
        return;
    struct part text = part_take(o, x, clip, n_query, clip - n_query);
    feed_forward(o, q, &w->text, text.rows);
    part_return(o, &text);
    ops_pop(o, mark);
}

// Clips computed side by side: as many as gain by it, but rows that are few of one clip stay few (ops.h: Determinism).
static size_t clips_together(const struct ops *o, const struct qformer *q, size_t n_tok,
                             size_t n_text)
{
    size_t few = ops_few_rows(o), most = ops_many_rows(o) / n_tok;
    const size_t rows[] = {n_tok, n_text, q->c.n_query, q->c.n_query + n_text};
    for (size_t i = 0; i < COUNT(rows); i++)
        if (rows[i] > 0 && rows[i] <= few)
            most = min_size(most, few / rows[i]);
    return max_size(most, 1);
}

void qformer_forward(struct ops *o, const struct qformer *q, const struct qformer_input *in,
                     struct mat queries)
{
    size_t n_query = q->c.n_query, n_tok = in->vision.rows / in->n_clip;
    size_t clip = n_query + in->n_text, together = clips_together(o, q, n_tok, in->n_text);
    for (size_t i = 0; i < in->n_clip; i += together) {
        size_t mark = ops_mark(o), n = min_size(together, in->n_clip - i);
        struct mat x = ops_mat(o, n * clip, q->c.d_model);
        struct mat out = mat_rows(queries, i * n_query, n * n_query);
        embed(o, q, in, x);
        for (size_t l = 0; l < q->c.n_layer; l++)
            layer_forward(o, q, l, x, mat_rows(in->vision, i * n_tok, n * n_tok), n);
        if (n == 1 || clip == n_query)
            op_copy(o, out, mat_rows(x, 0, n * n_query));
        else
            op_copy(o, mat_groups(out, n_query, 0, n_query), mat_groups(x, clip, 0, n_query));
        ops_pop(o, mark);
        if (ops_status(o, NULL) != 0)
            return;
        hooks_progress(in->hooks, "qformer", i + n, in->n_clip);
    }
    op_tap(o, "qformer", queries, (const size_t[]){in->n_clip, n_query, q->c.d_model}, 3);
}

void qformer_project(struct ops *o, const struct qformer *q, struct mat queries, struct mat rows)
{
    op_linear(o, rows, queries, &q->project_up);
    op_tap(o, "projected", rows, (const size_t[]){rows.rows, rows.cols}, 2);
}

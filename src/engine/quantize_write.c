// SPDX-License-Identifier: MIT
// Streams tensors: a few rows at a time become f32, get their LoRA product added, are checked and rounded on
// all threads, and written in order. Memory is one piece of output and a row a thread.
//
//   row of W, f32  (+ scale sum_k B[row, k] A[k, :])  ->  rows of the new type
//
// Source rows stay in the page cache, but not in the process: a tensor that is done is given back, or
// the mapped 19 GB of a release would count as ours.
// Easy to get wrong: LoRA is added before anything is rounded; a value that the new type cannot hold is an
// error with its place, never an infinity in the file.
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "base/size.h"
#include "engine/quantizing.h"
#include "tensor/block_coding.h"

enum { PIECE = 16 << 20, TASK_ROWS = 8 };

struct piece {
    const struct quant_tensor *t;
    const struct llm_config *c;
    const float *a; // LoRA A as f32 [r, cols]
    float limit;    // largest magnitude
    size_t first, n;
    uint8_t *out;
    float *row;            // [threads, cols]
    _Atomic size_t bad;    // element of the tensor, SIZE_MAX = none
    struct distance *told; // [threads]; NULL = nobody asks
    float *again;          // [threads, cols]: rows as they are stored
};

// Sums over the rows of a thread.
struct distance {
    double xx, yy, xy, dd, worst;
};

static float limit_of(enum dtype t)
{
    return t == DT_F32    ? INFINITY
           : t == DT_F16  ? 65504.0f
           : t == DT_BF16 ? 0x1.fep127f
                          : blocks_limit(t);
}

static void add_lora(const struct piece *p, size_t from, float *row)
{
    const struct linear *l = p->t->lora;
    size_t r = l->lora_a.dim[0], cols = p->t->cols;
    for (size_t k = 0; k < r; k++) {
        float b;
        dtype_to_f32(&b, (const char *)l->lora_b.data + dtype_span(l->lora_b.dtype, from * r + k),
                     l->lora_b.dtype, 1);
        b *= l->lora_scale;
        const float *a = p->a + k * cols;
        for (size_t i = 0; i < cols; i++)
            row[i] += b * a[i];
    }
}

static void store(const struct piece *p, uint8_t *to, const float *row)
{
    enum dtype t = p->t->type;
    for (size_t i = 0; (t == DT_F16 || t == DT_BF16) && i < p->t->cols; i++) {
        uint16_t h = t == DT_F16 ? f32_to_f16(row[i]) : f32_to_bf16(row[i]);
        memcpy(to + 2 * i, &h, sizeof h);
    }
    if (t == DT_F32)
        memcpy(to, row, p->t->cols * sizeof *row);
    else if (dtype_is_block(t))
        blocks_from_f32(to, t, row, p->t->cols, p->t->importance);
}

static void compare(struct distance *d, const float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double a = (double)x[i], b = (double)y[i];
        d->xx += a * a;
        d->yy += b * b;
        d->xy += a * b;
        d->dd += (a - b) * (a - b);
        d->worst = fmax(d->worst, fabs(a - b));
    }
}

static void row_make(struct piece *p, size_t r, unsigned thread)
{
    float *row = p->row + thread * p->t->cols;
    const struct quant_tensor *t = p->t;
    enum dtype from = t->from->dtype;
    size_t cols = t->cols, step = dtype_span(from, cols);
    size_t source = t->order == GGUF_ROWS_SAME ? r : gguf_source_row(p->c, t->order, t->packed, r);
    dtype_to_f32(row, (const char *)t->from->data + source * step, from, cols);
    if (t->lora)
        add_lora(p, source, row);
    for (size_t i = 0; i < cols; i++)
        if (!(fabsf(row[i]) <= p->limit) || !isfinite(row[i])) {
            size_t none = SIZE_MAX; // any of the first thread's will do
            atomic_compare_exchange_strong(&p->bad, &none, r * cols + i);
            return;
        }
    uint8_t *to = p->out + (r - p->first) * dtype_span(t->type, cols);
    store(p, to, row);
    if (p->told) {
        dtype_to_f32(p->again + thread * cols, to, t->type, cols);
        compare(&p->told[thread], row, p->again + thread * cols, cols);
    }
}

static void piece_task(void *ctx, size_t task, unsigned thread)
{
    struct piece *p = ctx;
    size_t end = min_size((task + 1) * TASK_ROWS, p->n);
    for (size_t r = task * TASK_ROWS; r < end; r++)
        row_make(p, p->first + r, thread);
}

static int bad_value(const struct piece *p, struct err *e)
{
    const struct quant_tensor *t = p->t;
    size_t at = atomic_load(&p->bad);
    return err_set(e, ERR_MODEL, "%s: row %zu, column %zu is not finite or too large for %s",
                   t->from->name, at / t->cols, at % t->cols, dtype_name(t->type));
}

static void tell(const struct piece *p, unsigned threads, const struct quant_progress *progress)
{
    const struct quant_tensor *t = p->t;
    struct distance d = {0};
    for (unsigned i = 0; i < threads; i++) { // threads share rows by chance: last digits may differ
        d.xx += p->told[i].xx;
        d.yy += p->told[i].yy;
        d.xy += p->told[i].xy;
        d.dd += p->told[i].dd;
        d.worst = fmax(d.worst, p->told[i].worst);
    }
    const struct iv_quantized_tensor out = {
        .name = t->name,
        .type = dtype_name(t->type),
        .vision = progress->vision,
        .rows = t->rows,
        .cols = t->cols,
        .bytes = dtype_span(t->type, t->rows * t->cols),
        .weighted = t->importance && dtype_is_block(t->type),
        .rms = sqrt(d.xx / (double)(t->rows * t->cols)),
        .relative_rms = d.xx > 0 ? sqrt(d.dd / d.xx) : 0,
        .cosine = d.xx > 0 && d.yy > 0 ? d.xy / sqrt(d.xx * d.yy) : 1,
        .largest_error = d.worst,
    };
    progress->report->tensor(progress->report->user, &out);
}

static int write_tensor(const struct quant_sink *sink, struct piece *p, struct pool *pool,
                        struct quant_progress *progress, struct err *e)
{
    int rc = 0;
    const struct quant_tensor *t = p->t;
    size_t row_bytes = dtype_span(t->type, t->cols);
    size_t some = max_size(PIECE / max_size(row_bytes, 1), 1);
    for (p->first = 0; p->first < t->rows; p->first += p->n) {
        p->n = min_size(some, t->rows - p->first);
        if (hooks_abort(progress->hooks))
            TRY(err_set(e, ERR_ABORT, "%s: stopped", t->from->name));
        pool_run(pool, piece_task, p, div_up(p->n, TASK_ROWS));
        if (atomic_load(&p->bad) != SIZE_MAX)
            TRY(bad_value(p, e));
        TRY(sink->data(sink->user, p->out, p->n * row_bytes, e));
        progress->done += dtype_span(t->from->dtype, p->n * t->cols);
        hooks_progress(progress->hooks, "quantize", progress->done, progress->total);
    }
    TRY(sink->end(sink->user, e));
    if (p->told)
        tell(p, pool_threads(pool), progress);
    filemap_forget(t->from->data, t->from->bytes);
fail:
    return rc;
}

// One block for all tensors: a piece of output, rows of the threads, LoRA A.
static int make_room(const struct quant_list *l, unsigned threads, bool told, uint8_t **block,
                     size_t *bytes, size_t *at_rows, size_t *at_a, struct err *e)
{
    size_t cols = 1, out = PIECE, a = 0, rows;
    for (size_t i = 0; i < l->n; i++) {
        const struct quant_tensor *t = &l->t[i];
        cols = max_size(cols, t->cols);
        out = max_size(out, dtype_span(t->type, t->cols));
        if (t->lora)
            a = max_size(a, t->lora->lora_a.dim[0] * t->cols);
    }
    rows = (told ? 2 : 1) * (size_t)threads * cols * sizeof(float); // cols is that of a mapped row
    *at_rows = round_up(out, 64);
    *at_a = *at_rows + round_up(rows, 64);
    *bytes = *at_a + a * sizeof(float);
    *block = mem_alloc_big(*bytes);
    return *block ? 0 : err_set(e, ERR_LIMIT, "quantize: out of memory for %zu bytes", *bytes);
}

int quant_stream(const struct quant_list *l, const struct llm_config *c, struct pool *pool,
                 struct quant_progress *progress, const struct quant_sink *sink, struct err *e)
{
    int rc;
    uint8_t *block = NULL;
    size_t bytes = 0, at_rows, at_a;
    unsigned threads = pool_threads(pool);
    bool told = progress->report && progress->report->tensor;
    struct distance *distance = mem_calloc(threads, sizeof *distance);
    if (!distance)
        TRY(err_set(e, ERR_LIMIT, "quantize: out of memory"));
    TRY(make_room(l, threads, told, &block, &bytes, &at_rows, &at_a, e));
    for (size_t i = 0; i < l->n; i++) {
        const struct quant_tensor *t = &l->t[i];
        float *a = (float *)(void *)(block + at_a);
        struct piece p = {.t = t,
                          .c = c,
                          .a = a,
                          .limit = limit_of(t->type),
                          .out = block,
                          .row = (float *)(void *)(block + at_rows),
                          .told = told ? distance : NULL,
                          .bad = SIZE_MAX};
        p.again = told ? p.row + threads * t->cols : NULL;
        memset(distance, 0, threads * sizeof *distance);
        if (t->lora)
            dtype_to_f32(a, t->lora->lora_a.data, t->lora->lora_a.dtype,
                         t->lora->lora_a.dim[0] * t->cols);
        TRY(write_tensor(sink, &p, pool, progress, e));
    }
fail:
    mem_free(distance);
    mem_free_big(block, bytes);
    return rc;
}

static int gguf_data(void *user, const void *bytes, size_t n, struct err *e)
{
    return gguf_write_data(user, bytes, n, e);
}

static int gguf_end(void *user, struct err *e)
{
    return gguf_write_pad(user, e);
}

int quant_write(struct gguf_writer *w, const struct quant_list *l, const struct llm_config *c,
                const char *path, struct pool *pool, struct quant_progress *progress, struct err *e)
{
    int rc = 0;
    const struct quant_sink sink = {w, gguf_data, gguf_end};
    for (size_t i = 0; i < l->n; i++)
        TRY(gguf_put_tensor(w, l->t[i].name, l->t[i].type, l->t[i].dim, l->t[i].rank, e));
    TRY(gguf_write_begin(w, path, progress->hooks, e));
    TRY(quant_stream(l, c, pool, progress, &sink, e));
    TRY(gguf_write_commit(w, e));
fail:
    return rc;
}

// SPDX-License-Identifier: MIT
// Importance matrices in the two forms that are around.
//
//   GGUF   general.type "imatrix"; per matrix NAME.in_sum2 f32 [n] or [1, n], sums of squared inputs, and
//          NAME.counts f32, one number: over how many rows
//   .dat   i32 entries; per entry i32 length | name | i32 count | i32 n | f32 [n], means times the count; then
//          words about the making, which nobody needs
//
// Source: llama.cpp, tools/imatrix. Easy to get wrong: a .dat has no magic, so every number in it is looked at
// before it is believed; matrices of several experts have several counts, and no model of ours has them.
#include "weights/imatrix.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "weights/gguf_write.h"

enum {
    ENTRY_MAX = 1 << 16,
    INPUTS_MAX = 1 << 24,
    TENSORS_MAX = 1 << 14, // of a GGUF file: looked through for each other
    DAT_BYTES_MAX = 1 << 30,
};
static const float MEAN_MAX = 1e20f; // weights times it, summed, stay finite in f32
static const char SUMS[] = ".in_sum2", COUNTS[] = ".counts";

void imatrix_close(struct imatrix *m)
{
    for (size_t i = 0; i < m->n; i++) {
        mem_free(m->entry[i].name);
        mem_free(m->entry[i].mean);
    }
    mem_free(m->entry);
    memset(m, 0, sizeof *m);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct imatrix_entry *)a)->name, ((const struct imatrix_entry *)b)->name);
}

const struct imatrix_entry *imatrix_find(const struct imatrix *m, const char *name)
{
    size_t low = 0, high = m->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = strcmp(name, m->entry[mid].name);
        if (c == 0)
            return &m->entry[mid];
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

// One more entry, of sums / count; bytes at sums may lie anywhere.
static int add_entry(struct imatrix *m, const char *path, const char *name, size_t name_n,
                     const void *sums, size_t n, float count, struct err *e)
{
    struct imatrix_entry *x = &m->entry[m->n];
    *x = (struct imatrix_entry){
        .name = mem_strndup(name, name_n), .n = n, .mean = mem_calloc(n, sizeof *x->mean)};
    if (!x->name || !x->mean) {
        mem_free(x->name);
        mem_free(x->mean);
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu values", path, n);
    }
    m->n++;
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, (const char *)sums + i * sizeof v, sizeof v);
        if (!(v >= 0) || !isfinite(v))
            return err_set(e, ERR_MODEL, "%s: %s: value %zu is %g, no sum of squares", path,
                           x->name, i, (double)v);
        x->mean[i] = v / count;
        if (!(x->mean[i] <= MEAN_MAX))
            return err_set(e, ERR_MODEL, "%s: %s: value %zu is %g for each of %g rows, at most %g",
                           path, x->name, i, (double)x->mean[i], (double)count, (double)MEAN_MAX);
    }
    return 0;
}

static int sort_entries(struct imatrix *m, const char *path, struct err *e)
{
    if (m->n == 0)
        return err_set(e, ERR_MODEL, "%s: an importance matrix of nothing", path);
    qsort(m->entry, m->n, sizeof *m->entry, by_name);
    for (size_t i = 1; i < m->n; i++)
        if (strcmp(m->entry[i - 1].name, m->entry[i].name) == 0)
            return err_set(e, ERR_MODEL, "%s: %s is there twice", path, m->entry[i].name);
    return 0;
}

// ---- GGUF

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

static const struct tensor *find_tensor(const struct gguf_file *f, const char *name)
{
    for (size_t i = 0; i < f->n_tensor; i++)
        if (strcmp(f->tensor[i].name, name) == 0)
            return &f->tensor[i];
    return NULL;
}

static int add_sums(struct imatrix *m, const struct gguf_file *f, const struct tensor *t,
                    struct err *e)
{
    char other[GGUF_NAME_MAX + sizeof COUNTS];
    size_t stem = strlen(t->name) - (sizeof SUMS - 1), n = t->dim[t->rank - 1];
    snprintf(other, sizeof other, "%.*s%s", (int)stem, t->name, COUNTS);
    const struct tensor *c = find_tensor(f, other);
    float count = 0;
    if (!c)
        return err_set(e, ERR_MODEL, "%s: %s lacks", f->path, other);
    if (t->dtype != DT_F32 || c->dtype != DT_F32)
        return err_set(e, ERR_MODEL, "%s: %s is %s and %s is %s, expected F32", f->path, t->name,
                       dtype_name(t->dtype), other, dtype_name(c->dtype));
    if (n > INPUTS_MAX || t->bytes != n * sizeof count || c->bytes != sizeof count)
        return err_set(e, ERR_MODEL,
                       "%s: %s: sums of more than one matrix (experts) are not supported", f->path,
                       t->name);
    memcpy(&count, c->data, sizeof count);
    if (!(count > 0) || !isfinite(count))
        return err_set(e, ERR_MODEL, "%s: %s is %g, expected a positive number of rows", f->path,
                       other, (double)count);
    return add_entry(m, f->path, t->name, stem, t->data, n, count, e);
}

static int read_gguf(struct imatrix *m, const char *path, struct err *e)
{
    int rc;
    struct gguf_file f;
    struct gguf_text type = {"", 0};
    size_t n_counts = 0;
    TRY(gguf_open(&f, path, e));
    rc = gguf_get_text(&f, "general.type", true, &type, e);
    if (rc == 0 && !gguf_text_is(type, "imatrix"))
        rc = err_set(e, ERR_MODEL, "%s: general.type is \"%.*s\", expected imatrix", path,
                     (int)min_size(type.n, 40), type.p);
    if (rc == 0 && f.n_tensor > TENSORS_MAX)
        rc = err_set(e, ERR_MODEL, "%s: %zu tensors, at most %d are read", path, f.n_tensor,
                     TENSORS_MAX);
    m->entry = rc == 0 ? mem_calloc(max_size(f.n_tensor, 1), sizeof *m->entry) : NULL;
    if (rc == 0 && !m->entry)
        rc = err_set(e, ERR_LIMIT, "%s: out of memory for %zu entries", path, f.n_tensor);
    for (size_t i = 0; rc == 0 && i < f.n_tensor; i++) {
        const struct tensor *t = &f.tensor[i];
        if (ends_with(t->name, COUNTS))
            n_counts++;
        else if (ends_with(t->name, SUMS))
            rc = add_sums(m, &f, t, e);
        else
            rc = err_set(e, ERR_MODEL, "%s: %s: neither *%s nor *%s", path, t->name, SUMS, COUNTS);
    }
    if (rc == 0 && n_counts != m->n)
        rc = err_set(e, ERR_MODEL, "%s: %zu tensors *%s for %zu *%s", path, n_counts, COUNTS, m->n,
                     SUMS);
    gguf_close(&f);
fail:
    return rc;
}

// ---- .dat

struct dat {
    const char *path, *p;
    size_t n; // left
};

static int get_number(struct dat *d, const char *what, int32_t low, int32_t high, int32_t *v,
                      struct err *e)
{
    *v = 0;
    if (d->n < sizeof *v)
        return err_set(e, ERR_MODEL, "%s: ends inside %s (truncated, or no importance matrix)",
                       d->path, what);
    memcpy(v, d->p, sizeof *v);
    d->p += sizeof *v;
    d->n -= sizeof *v;
    if (*v < low || *v > high)
        return err_set(e, ERR_MODEL, "%s: %s %d is not in %d..%d: no importance matrix", d->path,
                       what, (int)*v, (int)low, (int)high);
    return 0;
}

static int get_bytes(struct dat *d, const char *what, size_t n, const char **at, struct err *e)
{
    *at = d->p;
    if (n > d->n)
        return err_set(e, ERR_MODEL, "%s: %s of %zu bytes, the file has %zu left", d->path, what, n,
                       d->n);
    d->p += n;
    d->n -= n;
    return 0;
}

static int get_entry(struct imatrix *m, struct dat *d, struct err *e)
{
    int rc;
    int32_t len, count, n;
    const char *name, *sums;
    TRY(get_number(d, "the length of a name", 1, GGUF_NAME_MAX, &len, e));
    TRY(get_bytes(d, "a name", (size_t)len, &name, e));
    for (int32_t i = 0; i < len; i++)
        if ((unsigned char)name[i] <= 0x20 || name[i] == 0x7f)
            TRY(err_set(e, ERR_MODEL, "%s: a name holds the byte 0x%02x: no importance matrix",
                        d->path, (unsigned char)name[i]));
    TRY(get_number(d, "a count", 1, INT32_MAX, &count, e));
    TRY(get_number(d, "a number of values", 1, INPUTS_MAX, &n, e));
    TRY(get_bytes(d, "values", (size_t)n * sizeof(float), &sums, e));
    TRY(add_entry(m, d->path, name, (size_t)len, sums, (size_t)n, (float)count, e));
fail:
    return rc;
}

static int read_dat(struct imatrix *m, const char *path, struct err *e)
{
    int rc;
    char *bytes = NULL;
    struct dat d = {.path = path};
    int32_t n;
    TRY(file_read(path, DAT_BYTES_MAX, ERR_MODEL, &bytes, &d.n, e));
    d.p = bytes;
    TRY(get_number(&d, "the number of entries", 1, ENTRY_MAX, &n, e));
    m->entry = mem_calloc((size_t)n, sizeof *m->entry);
    if (!m->entry)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %d entries", path, (int)n));
    for (int32_t i = 0; i < n; i++)
        TRY(get_entry(m, &d, e));
fail:
    mem_free(bytes);
    return rc;
}

int imatrix_open(struct imatrix *m, const char *path, struct err *e)
{
    int rc;
    memset(m, 0, sizeof *m);
    if (gguf_is(path))
        TRY(read_gguf(m, path, e));
    else
        TRY(read_dat(m, path, e));
    TRY(sort_entries(m, path, e));
    return 0;
fail:
    imatrix_close(m);
    return rc;
}

// ---- writing

static int put_shapes(struct gguf_writer *w, const struct imatrix_sums *s, struct err *e)
{
    int rc;
    char name[GGUF_NAME_MAX + sizeof SUMS + 1];
    const size_t sums[2] = {1, s->n}, counts[2] = {1, 1};
    snprintf(name, sizeof name, "%s%s", s->name, SUMS);
    TRY(gguf_put_tensor(w, name, DT_F32, sums, 2, e));
    snprintf(name, sizeof name, "%s%s", s->name, COUNTS);
    TRY(gguf_put_tensor(w, name, DT_F32, counts, 2, e));
fail:
    return rc;
}

static int put_sums(struct gguf_writer *w, const struct imatrix_sums *s, struct err *e)
{
    int rc = 0;
    float v;
    for (size_t i = 0; i < s->n; i++) {
        v = (float)s->sum[i];
        if (!isfinite(v))
            TRY(err_set(e, ERR_FAIL, "%s: input %zu: the sum of its squares is not finite", s->name,
                        i));
        TRY(gguf_write_data(w, &v, sizeof v, e));
    }
    TRY(gguf_write_pad(w, e));
    v = (float)s->rows;
    TRY(gguf_write_data(w, &v, sizeof v, e));
    TRY(gguf_write_pad(w, e));
fail:
    return rc;
}

int imatrix_write(const char *path, const struct imatrix_sums *s, size_t n, const char *dataset,
                  const struct hooks *hooks, struct err *e)
{
    int rc = 0;
    struct gguf_writer w = {0};
    double rows = 0;
    for (size_t i = 0; i < n; i++)
        rows = fmax(rows, s[i].rows);
    gguf_put_text(&w, "general.type", "imatrix");
    gguf_put_texts(&w, "imatrix.datasets", 1);
    gguf_add_text(&w, dataset, strlen(dataset));
    gguf_put_u32(&w, "imatrix.chunk_count", rows < 4e9 ? (uint32_t)rows : UINT32_MAX);
    gguf_put_u32(&w, "imatrix.chunk_size", 1);
    for (size_t i = 0; i < n; i++)
        TRY(put_shapes(&w, &s[i], e));
    TRY(gguf_write_begin(&w, path, hooks, e));
    for (size_t i = 0; i < n; i++)
        TRY(put_sums(&w, &s[i], e));
    TRY(gguf_write_commit(&w, e));
fail:
    gguf_write_abandon(&w);
    return rc;
}

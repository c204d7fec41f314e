// SPDX-License-Identifier: MIT
// The writing side of gguf.c, where the layout stands. Everything before the tensors is small (a vocabulary
// is the largest part) and gathered in memory; tensors are never held here.
#include "weights/gguf_write.h"

#include <string.h>

#include "base/size.h"

enum { VALUES_MAX = 256 << 20 };

static void add(struct buf *b, const void *p, size_t n)
{
    b->max = VALUES_MAX;
    buf_add(b, p, n);
}

static void add_u32(struct buf *b, uint32_t v)
{
    add(b, &v, sizeof v);
}

static void add_u64(struct buf *b, uint64_t v)
{
    add(b, &v, sizeof v);
}

static void add_text(struct buf *b, const void *p, size_t n)
{
    add_u64(b, n);
    add(b, p, n);
}

static void put_key(struct gguf_writer *w, const char *key, enum gguf_type t)
{
    add_text(&w->values, key, strlen(key));
    add_u32(&w->values, (uint32_t)t);
    w->n_value++;
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    put_key(w, key, GGUF_U32);
    add_u32(&w->values, v);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float v)
{
    put_key(w, key, GGUF_F32);
    add(&w->values, &v, sizeof v);
}

void gguf_put_f64(struct gguf_writer *w, const char *key, double v)
{
    put_key(w, key, GGUF_F64);
    add(&w->values, &v, sizeof v);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v)
{
    put_key(w, key, GGUF_BOOL);
    add(&w->values, v ? "\1" : "\0", 1);
}

void gguf_put_bytes(struct gguf_writer *w, const char *key, const void *p, size_t n)
{
    put_key(w, key, GGUF_STRING);
    add_text(&w->values, p, n);
}

void gguf_put_text(struct gguf_writer *w, const char *key, const char *s)
{
    gguf_put_bytes(w, key, s, strlen(s));
}

static void put_array_head(struct gguf_writer *w, const char *key, enum gguf_type item, size_t n)
{
    put_key(w, key, GGUF_ARRAY);
    add_u32(&w->values, (uint32_t)item);
    add_u64(&w->values, n);
}

void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type item, const void *data,
                    size_t n)
{
    size_t size = item == GGUF_U8 ? 1 : 4;
    put_array_head(w, key, item, n);
    add(&w->values, data, n * size);
}

void gguf_put_texts(struct gguf_writer *w, const char *key, size_t n)
{
    put_array_head(w, key, GGUF_STRING, n);
}

void gguf_add_text(struct gguf_writer *w, const char *p, size_t n)
{
    add_text(&w->values, p, n);
}

int gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype t, const size_t *dim,
                    unsigned rank, struct err *e)
{
    size_t n = 1, bytes, len = strlen(name);
    bool fits = rank >= 1 && rank <= GGUF_RANK_MAX && dim[rank - 1] % dtype_block(t) == 0;
    for (unsigned i = 0; fits && i < rank; i++)
        fits = mul_size(n, dim[i], &n);
    if (!fits || !dtype_size(t, n, &bytes) || gguf_dtype_number(t) < 0) {
        char text[128];
        return err_set(e, ERR_FAIL, "%s: %s %s cannot be written", name, dtype_name(t),
                       shape_text(dim, rank, text, sizeof text));
    }
    if (len > GGUF_NAME_MAX)
        return err_set(e, ERR_FAIL, "%s: a name of %zu bytes, at most %d are possible", name, len,
                       GGUF_NAME_MAX);
    add_text(&w->infos, name, len);
    add_u32(&w->infos, rank);
    for (unsigned i = rank; i-- > 0;)
        add_u64(&w->infos, dim[i]);
    add_u32(&w->infos, (uint32_t)gguf_dtype_number(t));
    add_u64(&w->infos, w->data_bytes);
    w->data_bytes += round_up(bytes, GGUF_ALIGN);
    w->n_tensor++;
    return 0;
}

int gguf_write_begin(struct gguf_writer *w, const char *path, const struct hooks *hooks,
                     struct err *e)
{
    int rc;
    struct buf head = {0};
    if (w->values.failed || w->infos.failed)
        return err_set(e, ERR_LIMIT, "%s: out of memory for the names of its values and tensors",
                       path);
    TRY(outfile_create(&w->out, path, hooks, e));
    add(&head, "GGUF", 4);
    add_u32(&head, 3);
    add_u64(&head, w->n_tensor);
    add_u64(&head, w->n_value);
    if (head.failed)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", path));
    TRY(outfile_add(&w->out, head.data, head.len, e));
    TRY(outfile_add(&w->out, w->values.data, w->values.len, e));
    TRY(outfile_add(&w->out, w->infos.data, w->infos.len, e));
    TRY(outfile_pad(&w->out, GGUF_ALIGN, e));
fail:
    buf_free(&head);
    return rc;
}

int gguf_write_data(struct gguf_writer *w, const void *bytes, size_t n, struct err *e)
{
    w->written += n;
    return outfile_add(&w->out, bytes, n, e);
}

int gguf_write_pad(struct gguf_writer *w, struct err *e)
{
    w->written = (w->written + GGUF_ALIGN - 1) / GGUF_ALIGN * GGUF_ALIGN;
    return outfile_pad(&w->out, GGUF_ALIGN, e); // the data began at a multiple
}

int gguf_write_commit(struct gguf_writer *w, struct err *e)
{
    int rc;
    if (w->written != w->data_bytes)
        TRY(err_set(e, ERR_FAIL, "%s: %llu bytes of tensors were written, %llu announced",
                    w->out.path, (unsigned long long)w->written,
                    (unsigned long long)w->data_bytes));
    TRY(outfile_commit(&w->out, e));
    buf_free(&w->values);
    buf_free(&w->infos);
fail:
    return rc;
}

void gguf_write_abandon(struct gguf_writer *w)
{
    outfile_abandon(&w->out);
    buf_free(&w->values);
    buf_free(&w->infos);
}

// SPDX-License-Identifier: MIT
// Reads the safetensors container, of which it believes nothing that the file's length does not confirm.
//
//   OFFSET  SIZE  MEANING
//   0       8     n: length of the header, unsigned little-endian
//   8       n     JSON object, first byte '{', may be padded with spaces:
//                 {"__metadata__": {string: string}, NAME: {"dtype": "F32", "shape": [2,3],
//                 "data_offsets": [begin, end]}, ...}, offsets in bytes from 8 + n
//   8 + n         the tensors' bytes, little-endian, row-major, without hole or overlap, to the end of
//                 the file
//
// Source: the format's description by its authors (safetensors README). Easy to get wrong: the product
// of the dims times the element size overflows long before a dim looks odd; sorting by begin alone
// leaves empty tensors after the one that starts at the same byte; a header that is no multiple of 8
// bytes makes every tensor behind it misaligned, which is legal: those are copied.
#include "weights/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensor bytes are used in place: the host must be little-endian"
#endif

enum { PREFIX = 8 };

static const char metadata_key[] = "__metadata__";

// A tensor while its place in the file is being checked.
struct entry {
    struct tensor t;
    size_t begin, end; // bytes from the start of the data
};

static int entry_compare(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return strcmp(a->t.name, b->t.name); // empty tensors at one place: any fixed order
}

static int header_find(const struct filemap *m, const char *path, size_t *n, struct err *e)
{
    uint64_t len = 0;
    if (m->size < PREFIX)
        return err_set(e, ERR_MODEL, "%s: %zu bytes are no safetensors file", path, m->size);
    memcpy(&len, m->data, PREFIX);
    if (len > ST_HEADER_MAX)
        return err_set(e, ERR_MODEL, "%s: header of %" PRIu64 " bytes, at most %d are accepted",
                       path, len, ST_HEADER_MAX);
    if (len > m->size - PREFIX)
        return err_set(e, ERR_MODEL,
                       "%s: truncated: header of %" PRIu64 " bytes in a file of %zu bytes", path,
                       len, m->size);
    if (len == 0 || m->data[PREFIX] != '{')
        return err_set(e, ERR_MODEL, "%s: the header is no JSON object", path);
    *n = (size_t)len;
    return 0;
}

static int name_check(const char *name, size_t n, const char *path, struct err *e)
{
    if (n == 0)
        return err_set(e, ERR_MODEL, "%s: a tensor has an empty name", path);
    if (n > ST_NAME_MAX)
        return err_set(e, ERR_MODEL,
                       "%s: tensor name of %zu bytes (%.40s...), at most %d are accepted", path, n,
                       name, ST_NAME_MAX);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f)
            return err_set(e, ERR_MODEL, "%s: tensor name %s holds a control character", path,
                           name);
    }
    return 0;
}

static int metadata_check(const js_value *v, const char *path, struct err *e)
{
    if (!js_is_object(v))
        return err_set(e, ERR_MODEL, "%s: %s is no object", path, metadata_key);
    for (void *it = js_iter(v); it; it = js_next(v, it)) {
        if (!js_is_string(js_iter_value(it)))
            return err_set(e, ERR_MODEL, "%s: %s.%.100s is no string", path, metadata_key,
                           js_iter_key(it, NULL));
    }
    return 0;
}

static int dtype_parse(struct tensor *t, const js_value *v, const char *path, struct err *e)
{
    size_t n;
    const char *s = js_str(v, &n);
    if (!s)
        return err_set(e, ERR_MODEL, "%s: %s: dtype is missing or no string", path, t->name);
    if (!dtype_from_name(s, n, &t->dtype))
        return err_set(e, ERR_MODEL,
                       "%s: %s: dtype %.40s is not supported (F32, F16, BF16, I64, I32, U8)", path,
                       t->name, s);
    return 0;
}

// Shape and the bytes it takes.
static int shape_parse(struct tensor *t, const js_value *v, const char *path, struct err *e)
{
    size_t bytes = dtype_bytes(t->dtype);
    bool fits = true, empty = false;
    if (!js_is_array(v))
        return err_set(e, ERR_MODEL, "%s: %s: shape is missing or no array", path, t->name);
    if (js_size(v) > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL, "%s: %s: %zu dimensions, at most %d are supported", path,
                       t->name, js_size(v), TENSOR_MAX_RANK);
    t->rank = (unsigned)js_size(v);
    for (unsigned i = 0; i < t->rank; i++) {
        uint64_t d;
        if (!js_u64(js_at(v, i), &d) || d > SIZE_MAX)
            return err_set(e, ERR_MODEL, "%s: %s: dimension %u of shape is no integer from 0", path,
                           t->name, i);
        t->dim[i] = (size_t)d;
        empty |= d == 0;
        // a product that overflows before a 0 comes is refused too: no real tensor looks so
        fits = fits && mul_size(bytes, d ? t->dim[i] : 1, &bytes);
    }
    if (!fits) {
        char text[128];
        return err_set(e, ERR_MODEL, "%s: %s: the size of shape %s overflows", path, t->name,
                       shape_text(t->dim, t->rank, text, sizeof text));
    }
    t->bytes = empty ? 0 : bytes;
    return 0;
}

static int offsets_parse(struct entry *x, const js_value *v, size_t data_bytes, const char *path,
                         struct err *e)
{
    const struct tensor *t = &x->t;
    uint64_t begin, end;
    if (!js_is_array(v) || js_size(v) != 2 || !js_u64(js_at(v, 0), &begin) ||
        !js_u64(js_at(v, 1), &end))
        return err_set(e, ERR_MODEL, "%s: %s: data_offsets are no two integers from 0", path,
                       t->name);
    if (begin > end)
        return err_set(e, ERR_MODEL, "%s: %s: data_offsets [%" PRIu64 ",%" PRIu64 "] run backwards",
                       path, t->name, begin, end);
    if (end > data_bytes)
        return err_set(e, ERR_MODEL,
                       "%s: %s: data_offsets [%" PRIu64 ",%" PRIu64
                       "] pass the end: the file has %zu "
                       "bytes of data (truncated?)",
                       path, t->name, begin, end, data_bytes);
    if (end - begin != t->bytes) {
        char text[128];
        return err_set(e, ERR_MODEL, "%s: %s: %s %s takes %zu bytes, data_offsets give %" PRIu64,
                       path, t->name, dtype_name(t->dtype),
                       shape_text(t->dim, t->rank, text, sizeof text), t->bytes, end - begin);
    }
    x->begin = (size_t)begin;
    x->end = (size_t)end;
    return 0;
}

// x->t.name is set.
static int entry_parse(struct entry *x, const js_value *v, size_t data_bytes, const char *path,
                       struct err *e)
{
    int rc;
    if (!js_is_object(v))
        return err_set(e, ERR_MODEL, "%s: %s: no object", path, x->t.name);
    TRY(dtype_parse(&x->t, js_get(v, "dtype"), path, e));
    TRY(shape_parse(&x->t, js_get(v, "shape"), path, e));
    TRY(offsets_parse(x, js_get(v, "data_offsets"), data_bytes, path, e));
    if (js_size(v) != 3)
        return err_set(e, ERR_MODEL, "%s: %s: keys other than dtype, shape and data_offsets", path,
                       x->t.name);
fail:
    return rc;
}

// Tensors in byte order must follow each other from 0 to data_bytes.
static int coverage_check(const struct entry *x, size_t n, size_t data_bytes, const char *path,
                          struct err *e)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (x[i].begin < at)
            return err_set(e, ERR_MODEL,
                           "%s: %s starts at byte %zu and overlaps %s, which ends at %zu", path,
                           x[i].t.name, x[i].begin, x[i - 1].t.name, at);
        if (x[i].begin > at)
            return err_set(e, ERR_MODEL, "%s: %zu bytes before %s belong to no tensor", path,
                           x[i].begin - at, x[i].t.name);
        at = x[i].end;
    }
    if (at != data_bytes)
        return err_set(e, ERR_MODEL, "%s: %zu bytes after the last tensor", path, data_bytes - at);
    return 0;
}

// Counts tensors and the bytes of their names with zeros; checks names.
static int names_measure(const js_value *root, size_t *n_tensor, size_t *name_bytes,
                         const char *path, struct err *e)
{
    int rc;
    *n_tensor = 0;
    *name_bytes = 0;
    for (void *it = js_iter(root); it; it = js_next(root, it)) {
        size_t n;
        const char *name = js_iter_key(it, &n);
        if (strcmp(name, metadata_key) == 0) {
            TRY(metadata_check(js_iter_value(it), path, e));
            continue;
        }
        TRY(name_check(name, n, path, e));
        *name_bytes += n + 1; // at most ST_HEADER_MAX
        *n_tensor += 1;
    }
    if (*n_tensor == 0)
        return err_set(e, ERR_MODEL, "%s: no tensors", path);
    if (*n_tensor > ST_TENSOR_MAX)
        return err_set(e, ERR_MODEL, "%s: %zu tensors, at most %d are accepted", path, *n_tensor,
                       ST_TENSOR_MAX);
    return 0;
fail:
    return rc;
}

static bool aligned(const struct tensor *t)
{
    return (uintptr_t)t->data % dtype_bytes(t->dtype) == 0;
}

// Moves tensors whose elements are not aligned to one block of our own. Real files pad their header to
// a multiple of 8 bytes, so this costs nothing there.
static int misaligned_copy(struct st_file *f, const char *path, struct err *e)
{
    size_t bytes = 0, at = 0;
    for (size_t i = 0; i < f->n_tensor; i++)
        bytes += aligned(&f->tensor[i]) ? 0 : round_up(f->tensor[i].bytes, 8);
    if (bytes == 0)
        return 0; // what is left are empty tensors at most: nobody reads them
    if (bytes > ST_COPY_MAX)
        return err_set(
            e, ERR_MODEL,
            "%s: %zu bytes of tensors are misaligned in the file, at most %d are copied; write "
            "it again with a header that is a multiple of 8 bytes long",
            path, bytes, ST_COPY_MAX);
    f->copy = mem_alloc_big(bytes);
    if (!f->copy)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu bytes of misaligned tensors", path,
                       bytes);
    f->copy_bytes = bytes;
    for (size_t i = 0; i < f->n_tensor; i++) {
        struct tensor *t = &f->tensor[i];
        if (aligned(t))
            continue;
        t->data = memcpy((uint8_t *)f->copy + at, t->data, t->bytes);
        at += round_up(t->bytes, 8);
    }
    return 0;
}

static int tensors_read(struct st_file *f, const js_value *root, const uint8_t *data,
                        size_t data_bytes, const char *path, struct err *e)
{
    int rc;
    size_t n = 0, name_bytes, n_tensor;
    struct entry *x = NULL;
    TRY(names_measure(root, &n_tensor, &name_bytes, path, e));
    x = mem_calloc(n_tensor, sizeof *x);
    f->tensor = mem_calloc(n_tensor, sizeof *f->tensor);
    f->names = mem_calloc(name_bytes, 1);
    if (!x || !f->tensor || !f->names) {
        rc = err_set(e, ERR_LIMIT, "%s: out of memory for %zu tensors", path, n_tensor);
        goto fail;
    }
    char *at = f->names;
    for (void *it = js_iter(root); it; it = js_next(root, it)) {
        size_t len;
        const char *name = js_iter_key(it, &len);
        if (strcmp(name, metadata_key) == 0)
            continue;
        x[n].t.name = memcpy(at, name, len + 1);
        at += len + 1;
        TRY(entry_parse(&x[n], js_iter_value(it), data_bytes, path, e));
        n++;
    }
    qsort(x, n, sizeof *x, entry_compare);
    TRY(coverage_check(x, n, data_bytes, path, e));
    for (size_t i = 0; i < n; i++) {
        f->tensor[i] = x[i].t;
        f->tensor[i].data = data + x[i].begin;
    }
    f->n_tensor = n;
    f->data_bytes = data_bytes;
    rc = misaligned_copy(f, path, e);
fail:
    mem_free(x);
    return rc;
}

int st_open(struct st_file *f, const char *path, struct err *e)
{
    int rc;
    struct js_doc doc = {0};
    memset(f, 0, sizeof *f);
    size_t n = 0;
    TRY(filemap_open(&f->map, path, ERR_MODEL, e));
    TRY(header_find(&f->map, path, &n, e));
    TRY(js_parse(&doc, (const char *)f->map.data + PREFIX, n, path, ERR_MODEL, e));
    TRY(tensors_read(f, doc.root, f->map.data + PREFIX + n, f->map.size - PREFIX - n, path, e));
    js_free(&doc);
    return 0;
fail:
    js_free(&doc);
    st_close(f);
    return rc;
}

void st_close(struct st_file *f)
{
    mem_free_big(f->copy, f->copy_bytes);
    mem_free(f->names);
    mem_free(f->tensor);
    filemap_close(&f->map);
    memset(f, 0, sizeof *f);
}

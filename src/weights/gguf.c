// SPDX-License-Identifier: MIT
// Reads the GGUF container, version 3, of which it believes nothing that the file's length does not
// confirm.
//
//   magic "GGUF" | u32 version 3 | u64 tensors | u64 values
//   values:   string key | u32 type | value      string: u64 length | bytes
//             array value: u32 item type | u64 items | items      bool: one byte, 0 or 1
//   tensors:  string name | u32 rank | u64 dims, the contiguous one first | u32 type | u64 offset
//   zeros up to a multiple of general.alignment (32), from where the offsets count; each tensor's bytes
//   begin at such a multiple and follow each other without a gap but that padding
//
//   47 47 55 46  03 00 00 00  ..tensors..  ..values..  14 00 .. "general.architecture" 08 00 00 00 ..
//
// Source: the GGUF specification (ggml, docs/gguf.md). Easy to get wrong: every length is compared with what is
// left before anything is added to it; dims multiply past 64 bits long before one looks odd; an array of
// strings must be walked to know where it ends; a bool of 2 is undefined behaviour once it is read as one.
#include "weights/gguf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"

enum { VERSION = 3, MAGIC_BYTES = 4 };

static const char magic[] = "GGUF";

static const struct {
    const char *name;
    size_t bytes; // 0 = not of one size
} value_types[GGUF_N] = {
    [GGUF_U8] = {"u8", 1},   [GGUF_I8] = {"i8", 1},       [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2}, [GGUF_U32] = {"u32", 4},     [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1},   [GGUF_STRING] = {"string", 0},
    [GGUF_U64] = {"u64", 8}, [GGUF_ARRAY] = {"array", 0}, [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

// Tensor types by their number; those without an ours are only named.
static const struct {
    const char *name;
    int ours;
} tensor_types[] = {
    [0] = {"F32", DT_F32},    [1] = {"F16", DT_F16},    [2] = {"Q4_0", DT_Q4_0},
    [3] = {"Q4_1", DT_Q4_1},  [6] = {"Q5_0", DT_Q5_0},  [7] = {"Q5_1", -1},
    [8] = {"Q8_0", DT_Q8_0},  [9] = {"Q8_1", -1},       [10] = {"Q2_K", -1},
    [11] = {"Q3_K", -1},      [12] = {"Q4_K", DT_Q4_K}, [13] = {"Q5_K", DT_Q5_K},
    [14] = {"Q6_K", DT_Q6_K}, [15] = {"Q8_K", -1},      [16] = {"IQ2_XXS", -1},
    [17] = {"IQ2_XS", -1},    [18] = {"IQ3_XXS", -1},   [19] = {"IQ1_S", -1},
    [20] = {"IQ4_NL", -1},    [21] = {"IQ3_S", -1},     [22] = {"IQ2_S", -1},
    [23] = {"IQ4_XS", -1},    [24] = {"I8", -1},        [25] = {"I16", -1},
    [26] = {"I32", DT_I32},   [27] = {"I64", DT_I64},   [28] = {"F64", -1},
    [29] = {"IQ1_M", -1},     [30] = {"BF16", DT_BF16}, [34] = {"TQ1_0", -1},
    [35] = {"TQ2_0", -1},     [39] = {"MXFP4", -1},
};
enum { N_TENSOR_TYPE = sizeof tensor_types / sizeof tensor_types[0] };

int gguf_dtype_number(enum dtype t)
{
    for (int i = 0; i < N_TENSOR_TYPE; i++)
        if (tensor_types[i].name && tensor_types[i].ours == (int)t)
            return i;
    return -1;
}

const char *gguf_type_name(enum gguf_type t)
{
    return (unsigned)t < GGUF_N ? value_types[t].name : "?";
}

// What is left of the file.
struct reader {
    const uint8_t *p;
    size_t n;
    const struct gguf_file *f;
};

static size_t position(const struct reader *r)
{
    return (size_t)(r->p - r->f->map.data);
}

static int truncated(const struct reader *r, const char *what, struct err *e)
{
    return err_set(e, ERR_MODEL, "%s: byte %zu: the file ends inside %s (truncated?)", r->f->path,
                   position(r), what);
}

static int read_u32(struct reader *r, const char *what, uint32_t *v, struct err *e)
{
    *v = 0;
    if (r->n < sizeof *v)
        return truncated(r, what, e);
    memcpy(v, r->p, sizeof *v);
    r->p += sizeof *v;
    r->n -= sizeof *v;
    return 0;
}

static int read_u64(struct reader *r, const char *what, uint64_t *v, struct err *e)
{
    *v = 0;
    if (r->n < sizeof *v)
        return truncated(r, what, e);
    memcpy(v, r->p, sizeof *v);
    r->p += sizeof *v;
    r->n -= sizeof *v;
    return 0;
}

static int read_text(struct reader *r, const char *what, struct gguf_text *t, struct err *e)
{
    uint64_t n;
    int rc;
    *t = (struct gguf_text){"", 0};
    size_t at = position(r);
    TRY(read_u64(r, what, &n, e));
    if (n > r->n)
        return err_set(e, ERR_MODEL, "%s: byte %zu: %s of %" PRIu64 " bytes, the file has %zu left",
                       r->f->path, at, what, n, r->n);
    *t = (struct gguf_text){(const char *)r->p, (size_t)n};
    r->p += n;
    r->n -= (size_t)n;
fail:
    return rc;
}

// Keys and names: short and printable.
static int check_word(const struct reader *r, const char *what, struct gguf_text t, size_t max,
                      bool ascii, struct err *e)
{
    if (t.n == 0 || t.n > max)
        return err_set(e, ERR_MODEL, "%s: %s of %zu bytes (%.*s), 1 to %zu are accepted",
                       r->f->path, what, t.n, (int)min_size(t.n, 40), t.p, max);
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c <= 0x20 || c == 0x7f || (ascii && c > 0x7f))
            return err_set(e, ERR_MODEL, "%s: %s \"%.*s\" holds the byte 0x%02x", r->f->path, what,
                           (int)t.n, t.p, c);
    }
    return 0;
}

// ---- values

static int skip_items(struct reader *r, const struct gguf_value *v, struct err *e)
{
    int rc;
    struct gguf_text t;
    size_t bytes;
    if (v->item == GGUF_STRING) {
        // each takes 8 bytes at least, so that a count that lies ends soon
        for (size_t i = 0; i < v->n; i++)
            TRY(read_text(r, "a string", &t, e));
        return 0;
    }
    if (!mul_size(v->n, value_types[v->item].bytes, &bytes) || bytes > r->n)
        return err_set(e, ERR_MODEL, "%s: %.*s: %zu items of type %s, the file has %zu bytes left",
                       r->f->path, (int)v->key.n, v->key.p, v->n, gguf_type_name(v->item), r->n);
    for (size_t i = 0; v->item == GGUF_BOOL && i < v->n; i++)
        if (v->data[i] > 1)
            return err_set(e, ERR_MODEL, "%s: %.*s: %d is no bool", r->f->path, (int)v->key.n,
                           v->key.p, v->data[i]);
    r->p += bytes;
    r->n -= bytes;
    return 0;
fail:
    return rc;
}

static int read_value(struct reader *r, struct gguf_value *v, struct err *e)
{
    int rc;
    uint32_t type, item;
    uint64_t n = 1;
    TRY(read_text(r, "a key", &v->key, e));
    TRY(check_word(r, "a key", v->key, GGUF_KEY_MAX, true, e));
    TRY(read_u32(r, "a value", &type, e));
    item = type;
    if (type == GGUF_ARRAY) {
        TRY(read_u32(r, "an array", &item, e));
        TRY(read_u64(r, "an array", &n, e));
    }
    if (type >= GGUF_N || item >= GGUF_N)
        return err_set(e, ERR_MODEL, "%s: %.*s: unknown type of value %" PRIu32, r->f->path,
                       (int)v->key.n, v->key.p, type >= GGUF_N ? type : item);
    if (item == GGUF_ARRAY)
        return err_set(e, ERR_MODEL, "%s: %.*s: arrays of arrays are not supported", r->f->path,
                       (int)v->key.n, v->key.p);
    v->type = (enum gguf_type)type;
    v->item = (enum gguf_type)item;
    v->n = (size_t)n;
    v->data = r->p;
    TRY(skip_items(r, v, e));
fail:
    return rc;
}

static int text_compare(struct gguf_text a, struct gguf_text b)
{
    int c = memcmp(a.p, b.p, min_size(a.n, b.n));
    return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}

static int key_compare(const void *a, const void *b)
{
    return text_compare(*(const struct gguf_text *)a, *(const struct gguf_text *)b);
}

static int check_keys(const struct gguf_file *f, struct err *e)
{
    int rc = 0;
    struct gguf_text *key = mem_calloc(max_size(f->n_value, 1), sizeof *key);
    if (!key)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu keys", f->path, f->n_value);
    for (size_t i = 0; i < f->n_value; i++)
        key[i] = f->value[i].key;
    qsort(key, f->n_value, sizeof *key, key_compare);
    for (size_t i = 1; rc == 0 && i < f->n_value; i++)
        if (text_compare(key[i - 1], key[i]) == 0)
            rc = err_set(e, ERR_MODEL, "%s: key %.*s is there twice", f->path, (int)key[i].n,
                         key[i].p);
    mem_free(key);
    return rc;
}

static int read_values(struct gguf_file *f, struct reader *r, size_t n, struct err *e)
{
    int rc;
    f->value = mem_calloc(max_size(n, 1), sizeof *f->value);
    if (!f->value)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu values", f->path, n);
    for (; f->n_value < n; f->n_value++)
        TRY(read_value(r, &f->value[f->n_value], e));
    TRY(check_keys(f, e));
fail:
    return rc;
}

// ---- tensors

// A tensor while its place in the file is being checked.
struct entry {
    struct gguf_text name;
    struct tensor t;
    size_t offset;
};

static int by_offset(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static int by_name(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    return text_compare(a->name, b->name);
}

static int bad_tensor(const struct reader *r, const struct entry *x, const char *what,
                      struct err *e)
{
    char text[128];
    return err_set(e, ERR_MODEL, "%s: %.*s %s: %s", r->f->path, (int)x->name.n, x->name.p,
                   shape_text(x->t.dim, x->t.rank, text, sizeof text), what);
}

static int read_shape(struct reader *r, struct entry *x, struct err *e)
{
    int rc;
    uint32_t rank;
    size_t count = 1;
    bool fits = true;
    TRY(read_u32(r, "a tensor's shape", &rank, e));
    if (rank < 1 || rank > GGUF_RANK_MAX)
        return err_set(e, ERR_MODEL, "%s: %.*s: %" PRIu32 " dimensions, 1 to %d are accepted",
                       r->f->path, (int)x->name.n, x->name.p, rank, GGUF_RANK_MAX);
    x->t.rank = rank;
    for (uint32_t i = 0; i < rank; i++) {
        uint64_t d;
        TRY(read_u64(r, "a tensor's shape", &d, e));
        x->t.dim[rank - 1 - i] = (size_t)d;
        fits = fits && mul_size(count, (size_t)d, &count);
    }
    if (!fits || count > PTRDIFF_MAX)
        return bad_tensor(r, x, "the number of elements overflows", e);
    if (count == 0)
        return bad_tensor(r, x, "a dimension is 0", e);
fail:
    return rc;
}

static int read_type(struct reader *r, struct entry *x, struct err *e)
{
    int rc;
    uint32_t type;
    size_t count = 1;
    TRY(read_u32(r, "a tensor's type", &type, e));
    const char *name = type < N_TENSOR_TYPE ? tensor_types[type].name : NULL;
    if (!name)
        return err_set(e, ERR_MODEL, "%s: %.*s: unknown tensor type %" PRIu32, r->f->path,
                       (int)x->name.n, x->name.p, type);
    if (tensor_types[type].ours < 0)
        return err_set(e, ERR_MODEL,
                       "%s: %.*s: type %s is not supported (F32, F16, BF16, Q8_0, Q6_K, Q5_K, "
                       "Q5_0, Q4_K, Q4_1 and Q4_0 are)",
                       r->f->path, (int)x->name.n, x->name.p, name);
    x->t.dtype = (enum dtype)tensor_types[type].ours;
    for (unsigned i = 0; i < x->t.rank; i++)
        count *= x->t.dim[i]; // checked by read_shape
    if (x->t.dim[x->t.rank - 1] % dtype_block(x->t.dtype) != 0) {
        char what[96];
        snprintf(what, sizeof what, "rows of %zu are no multiple of a %s block's %zu",
                 x->t.dim[x->t.rank - 1], name, dtype_block(x->t.dtype));
        return bad_tensor(r, x, what, e);
    }
    if (!dtype_size(x->t.dtype, count, &x->t.bytes))
        return bad_tensor(r, x, "the size overflows", e);
fail:
    return rc;
}

static int read_tensor(struct reader *r, struct entry *x, size_t align, struct err *e)
{
    int rc;
    uint64_t offset;
    TRY(read_text(r, "a tensor's name", &x->name, e));
    TRY(check_word(r, "a tensor's name", x->name, GGUF_NAME_MAX, false, e));
    TRY(read_shape(r, x, e));
    TRY(read_type(r, x, e));
    TRY(read_u64(r, "a tensor's offset", &offset, e));
    if (offset % align != 0)
        return err_set(e, ERR_MODEL, "%s: %.*s: offset %" PRIu64 " is no multiple of %zu",
                       r->f->path, (int)x->name.n, x->name.p, offset, align);
    x->offset = (size_t)offset;
fail:
    return rc;
}

static int check_names(const struct gguf_file *f, struct entry *x, size_t n, struct err *e)
{
    qsort(x, n, sizeof *x, by_name);
    for (size_t i = 1; i < n; i++)
        if (text_compare(x[i - 1].name, x[i].name) == 0)
            return err_set(e, ERR_MODEL, "%s: tensor %.*s is there twice", f->path,
                           (int)x[i].name.n, x[i].name.p);
    return 0;
}

// In the order of their bytes, tensors must follow each other up to the padding and end with the file.
static int check_places(const struct gguf_file *f, struct entry *x, size_t n, size_t data_bytes,
                        size_t align, struct err *e)
{
    size_t at = 0;
    qsort(x, n, sizeof *x, by_offset);
    for (size_t i = 0; i < n; i++) {
        const struct gguf_text *name = &x[i].name;
        if (x[i].offset > data_bytes || x[i].t.bytes > data_bytes - x[i].offset)
            return err_set(e, ERR_MODEL,
                           "%s: %.*s: %zu bytes at offset %zu pass the end: the file has %zu "
                           "bytes of data (truncated?)",
                           f->path, (int)name->n, name->p, x[i].t.bytes, x[i].offset, data_bytes);
        if (x[i].offset < at)
            return err_set(e, ERR_MODEL, "%s: %.*s starts at byte %zu and overlaps %.*s", f->path,
                           (int)name->n, name->p, x[i].offset, (int)x[i - 1].name.n,
                           x[i - 1].name.p);
        if (x[i].offset - at >= align)
            return err_set(e, ERR_MODEL, "%s: %zu bytes before %.*s belong to no tensor", f->path,
                           x[i].offset - at, (int)name->n, name->p);
        at = x[i].offset + x[i].t.bytes;
    }
    if (data_bytes - at >= align)
        return err_set(e, ERR_MODEL, "%s: %zu bytes after the last tensor", f->path,
                       data_bytes - at);
    return 0;
}

static int read_tensors(struct gguf_file *f, struct reader *r, size_t n, size_t align,
                        struct err *e)
{
    int rc;
    size_t name_bytes = 0, begin;
    struct entry *x = mem_calloc(max_size(n, 1), sizeof *x);
    f->tensor = mem_calloc(max_size(n, 1), sizeof *f->tensor);
    if (!x || !f->tensor) {
        rc = err_set(e, ERR_LIMIT, "%s: out of memory for %zu tensors", f->path, n);
        goto fail;
    }
    for (size_t i = 0; i < n; i++) {
        TRY(read_tensor(r, &x[i], align, e));
        name_bytes += x[i].name.n + 1;
    }
    TRY(check_names(f, x, n, e));
    begin = n ? round_up(position(r), align) : position(r);
    if (begin > f->map.size)
        TRY(truncated(r, "the padding before the tensors", e));
    TRY(check_places(f, x, n, f->map.size - begin, align, e));
    f->names = mem_calloc(max_size(name_bytes, 1), 1);
    if (!f->names)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu tensors", f->path, n));
    char *to = f->names;
    for (size_t i = 0; i < n; i++) {
        f->tensor[i] = x[i].t;
        f->tensor[i].data = f->map.data + begin + x[i].offset;
        f->tensor[i].name = memcpy(to, x[i].name.p, x[i].name.n);
        to += x[i].name.n + 1;
    }
    f->n_tensor = n;
fail:
    mem_free(x);
    return rc;
}

// ---- the file

static int read_header(struct reader *r, uint64_t *n_tensor, uint64_t *n_value, struct err *e)
{
    int rc;
    uint32_t version;
    const char *path = r->f->path;
    if (r->n < MAGIC_BYTES || memcmp(r->p, magic, MAGIC_BYTES) != 0)
        return err_set(e, ERR_MODEL, "%s: no GGUF file (%zu bytes)", path, r->n);
    r->p += MAGIC_BYTES;
    r->n -= MAGIC_BYTES;
    TRY(read_u32(r, "the header", &version, e));
    if (version == (uint32_t)VERSION << 24)
        return err_set(e, ERR_MODEL, "%s: a big-endian GGUF file", path);
    if (version != VERSION)
        return err_set(e, ERR_MODEL, "%s: GGUF version %" PRIu32 ", only %d is supported", path,
                       version, VERSION);
    TRY(read_u64(r, "the header", n_tensor, e));
    TRY(read_u64(r, "the header", n_value, e));
    if (*n_tensor > GGUF_TENSOR_MAX)
        return err_set(e, ERR_MODEL, "%s: %" PRIu64 " tensors, at most %d are accepted", path,
                       *n_tensor, GGUF_TENSOR_MAX);
    if (*n_value > GGUF_VALUE_MAX)
        return err_set(e, ERR_MODEL, "%s: %" PRIu64 " values, at most %d are accepted", path,
                       *n_value, GGUF_VALUE_MAX);
fail:
    return rc;
}

static int read_alignment(const struct gguf_file *f, size_t *align, struct err *e)
{
    int rc;
    *align = GGUF_ALIGN;
    TRY(gguf_get_size(f, "general.alignment", false, 8, GGUF_ALIGN_MAX, align, e));
    if ((*align & (*align - 1)) != 0)
        return err_set(e, ERR_MODEL, "%s: general.alignment is %zu, expected a power of two",
                       f->path, *align);
fail:
    return rc;
}

int gguf_open(struct gguf_file *f, const char *path, struct err *e)
{
    int rc;
    uint64_t n_tensor, n_value;
    size_t align;
    memset(f, 0, sizeof *f);
    f->path = mem_strndup(path, strlen(path));
    if (!f->path)
        return err_set(e, ERR_LIMIT, "%s: out of memory", path);
    TRY(filemap_open(&f->map, path, ERR_MODEL, e));
    struct reader r = {f->map.data, f->map.size, f};
    TRY(read_header(&r, &n_tensor, &n_value, e));
    TRY(read_values(f, &r, (size_t)n_value, e));
    TRY(read_alignment(f, &align, e));
    TRY(read_tensors(f, &r, (size_t)n_tensor, align, e));
    return 0;
fail:
    gguf_close(f);
    return rc;
}

void gguf_close(struct gguf_file *f)
{
    mem_free(f->value);
    mem_free(f->tensor);
    mem_free(f->names);
    mem_free(f->path);
    filemap_close(&f->map);
    memset(f, 0, sizeof *f);
}

bool gguf_is(const char *path)
{
    char head[MAGIC_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool is = read(fd, head, sizeof head) == (ssize_t)sizeof head &&
              memcmp(head, magic, sizeof head) == 0;
    close(fd);
    return is;
}

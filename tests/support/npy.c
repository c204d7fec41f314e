// SPDX-License-Identifier: MIT
// .npy: "\x93NUMPY", version u8 major u8 minor, header length (u16 in version 1, u32 later, little
// endian), a Python dict in ASCII {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, data.
// The dict is searched for its three keys; anything that numpy.save does not write is refused.
#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "base/size.h"

static const struct {
    const char *descr;
    enum npy_kind kind;
    size_t bytes;
} kinds[] = {
    {"'<f4'", NPY_F32, 4}, {"'<f8'", NPY_F64, 8}, {"'<i4'", NPY_I32, 4},
    {"'<i8'", NPY_I64, 8}, {"'|u1'", NPY_U8, 1},
};

// Text after "'key':" with blanks skipped, or NULL.
static const char *dict_value(const char *dict, const char *key)
{
    const char *p = strstr(dict, key);
    if (!p)
        return NULL;
    p += strlen(key);
    return p + strspn(p, " ");
}

static bool parse_shape(struct npy *a, const char *p)
{
    a->rank = 0;
    a->n = 1;
    if (*p++ != '(')
        return false;
    for (;;) {
        p += strspn(p, " ,");
        if (*p == ')')
            return true;
        char *end;
        unsigned long long d = strtoull(p, &end, 10);
        if (end == p || a->rank == NPY_MAX_RANK || !mul_size(a->n, (size_t)d, &a->n))
            return false;
        a->dim[a->rank++] = (size_t)d;
        p = end;
    }
}

// The length of the preamble and dict, and the item size; a gets kind and shape.
static const char *parse_header(struct npy *a, const char *file, size_t n, size_t *head,
                                size_t *item)
{
    char dict[4096];
    const uint8_t *u = (const uint8_t *)file;
    if (n < 12 || memcmp(file, "\x93NUMPY", 6) != 0)
        return "not a .npy file";
    size_t at = u[6] == 1 ? 10 : 12;
    size_t len = u[6] == 1
                     ? (size_t)(u[8] | u[9] << 8)
                     : (size_t)u[8] | (size_t)u[9] << 8 | (size_t)u[10] << 16 | (size_t)u[11] << 24;
    if (len >= sizeof dict || len > n - at)
        return "header too long";
    memcpy(dict, file + at, len);
    dict[len] = 0;
    *head = at + len;
    const char *order = dict_value(dict, "'fortran_order':");
    const char *shape = dict_value(dict, "'shape':");
    const char *descr = dict_value(dict, "'descr':");
    if (!order || !shape || !descr || strncmp(order, "False", 5) != 0 || !parse_shape(a, shape))
        return "header not understood";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strncmp(descr, kinds[i].descr, strlen(kinds[i].descr)) == 0) {
            a->kind = kinds[i].kind;
            *item = kinds[i].bytes;
            return NULL;
        }
    }
    return "element type not read here";
}

bool npy_read(struct npy *a, const char *path)
{
    char *file;
    size_t n, head, item, bytes;
    struct err e = {0};
    memset(a, 0, sizeof *a);
    if (file_read(path, (size_t)1 << 31, ERR_FAIL, &file, &n, &e) != 0) {
        fprintf(stderr, "%s\n", e.msg);
        return false;
    }
    const char *wrong = parse_header(a, file, n, &head, &item);
    if (!wrong && (!mul_size(a->n, item, &bytes) || bytes != n - head))
        wrong = "length does not fit the shape";
    if (!wrong) {
        a->data = mem_calloc(a->n, item);
        if (!a->data)
            wrong = "out of memory";
    }
    if (wrong) {
        fprintf(stderr, "%s: %s\n", path, wrong);
        memset(a, 0, sizeof *a);
    } else {
        memcpy(a->data, file + head, bytes);
    }
    mem_free(file);
    return !wrong;
}

void npy_free(struct npy *a)
{
    mem_free(a->data);
    memset(a, 0, sizeof *a);
}

// SPDX-License-Identifier: MIT
// Fields of checked files. Easy to get wrong: a length from the bytes is compared with what is left before
// anything is added to it.
#include "base/fields.h"

#include <string.h>

static void put_number(struct buf *b, uint64_t v, unsigned n)
{
    uint8_t x[8];
    for (unsigned i = 0; i < n; i++)
        x[i] = (uint8_t)(v >> (8 * i));
    buf_add(b, x, n);
}

void fields_put_u32(struct buf *b, uint32_t v)
{
    put_number(b, v, 4);
}

void fields_put_u64(struct buf *b, uint64_t v)
{
    put_number(b, v, 8);
}

void fields_put_f64(struct buf *b, double v)
{
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    put_number(b, u, 8);
}

void fields_put_bytes(struct buf *b, const void *p, size_t n)
{
    buf_add(b, p, n);
}

void fields_put_text(struct buf *b, struct fields_text t)
{
    if (t.n >= UINT32_MAX) {
        b->failed = true;
        return;
    }
    fields_put_u32(b, t.p ? (uint32_t)t.n + 1 : 0);
    if (t.p)
        buf_add(b, t.p, t.n);
}

const uint8_t *fields_bytes(struct fields *f, size_t n)
{
    if (f->failed || n > f->left) {
        f->failed = true;
        return NULL;
    }
    const uint8_t *p = f->p;
    f->p += n;
    f->left -= n;
    return p;
}

static uint64_t number(struct fields *f, unsigned n)
{
    const uint8_t *p = fields_bytes(f, n);
    uint64_t v = 0;
    for (unsigned i = 0; p && i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint32_t fields_u32(struct fields *f)
{
    return (uint32_t)number(f, 4);
}

uint64_t fields_u64(struct fields *f)
{
    return number(f, 8);
}

double fields_f64(struct fields *f)
{
    double v;
    uint64_t u = number(f, 8);
    memcpy(&v, &u, sizeof v);
    return v;
}

bool fields_flag(struct fields *f)
{
    uint32_t v = fields_u32(f);
    f->failed = f->failed || v > 1;
    return v == 1;
}

struct fields_text fields_text(struct fields *f, bool c_string)
{
    uint32_t n = fields_u32(f);
    struct fields_text none = {0};
    if (n == 0)
        return none;
    const char *p = (const char *)fields_bytes(f, n - 1);
    if (p && c_string && memchr(p, 0, n - 1)) {
        f->failed = true;
        return none;
    }
    return p ? (struct fields_text){p, n - 1} : none;
}

bool fields_end(const struct fields *f)
{
    return !f->failed && f->left == 0;
}

// SPDX-License-Identifier: MIT
// Growth by half again, never past max.
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"

static bool reserve(struct buf *b, size_t extra)
{
    size_t max = b->max ? b->max : BUF_MAX_DEFAULT, need, want;
    if (b->failed || !add_size(b->len, extra, &need) || need > max) {
        b->failed = true;
        return false;
    }
    if (need < b->cap)
        return true;
    if (!add_size(need, need / 2, &want) || want > max)
        want = max;
    size_t cap;
    if (!add_size(max_size(64, want), 1, &cap)) {
        b->failed = true;
        return false;
    }
    char *p = mem_realloc(b->data, cap, 1);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

bool buf_add(struct buf *b, const void *p, size_t n)
{
    if (!reserve(b, n))
        return false;
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = 0;
    return true;
}

bool buf_add_str(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    bool ok = n >= 0 && reserve(b, (size_t)n);
    if (ok) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
    return ok;
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = 0;
}

void buf_free(struct buf *b)
{
    mem_free(b->data);
    size_t max = b->max;
    memset(b, 0, sizeof *b);
    b->max = max;
}

char *buf_take(struct buf *b)
{
    if (!b->failed && !b->data)
        reserve(b, 1);
    char *p = b->failed ? NULL : b->data;
    if (p) {
        p[b->len] = 0;
        b->data = NULL;
    }
    buf_free(b);
    return p;
}

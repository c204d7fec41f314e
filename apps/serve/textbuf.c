// SPDX-License-Identifier: MIT
// A growing run of bytes. Easy to get wrong: what strangers send is counted against a maximum before memory is
// taken, and a buffer that failed stays failed, so that half a text is never sent as a whole one.

#include "textbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "heap.h"

static bool room(struct textbuf *b, size_t n)
{
    size_t max = b->max ? b->max : (size_t)1 << 31;
    if (b->failed || n > max - b->len) {
        b->failed = true;
        return false;
    }
    if (b->len + n + 1 <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 256;
    while (cap < b->len + n + 1)
        cap *= 2;
    if (cap > max + 1)
        cap = max + 1;
    char *data = heap_realloc(b->data, cap, 1);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void textbuf_add(struct textbuf *b, const void *bytes, size_t n)
{
    if (!room(b, n))
        return;
    if (n > 0)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void textbuf_str(struct textbuf *b, const char *s)
{
    textbuf_add(b, s, strlen(s));
}

void textbuf_printf(struct textbuf *b, const char *format, ...)
{
    char small[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < sizeof small) {
        textbuf_add(b, small, (size_t)n);
    } else if (room(b, (size_t)n)) {
        va_start(args, format);
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, format, args);
        va_end(args);
        b->len += (size_t)n;
    }
}

void textbuf_shift(struct textbuf *b, size_t n)
{
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

char *textbuf_take(struct textbuf *b, size_t *n)
{
    textbuf_add(b, "", 0);
    char *data = b->failed ? NULL : b->data;
    if (n)
        *n = data ? b->len : 0;
    if (data)
        b->data = NULL;
    textbuf_free(b);
    return data;
}

void textbuf_free(struct textbuf *b)
{
    heap_free(b->data);
    *b = (struct textbuf){.max = b->max};
}

// SPDX-License-Identifier: MIT
// Formats error messages in place. Names from files may hold any byte: control characters are
// shown as \xNN so that one error stays one line and cannot drive a terminal.
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void copy_visible(char *dst, size_t cap, const char *src)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (; *src; src++) {
        unsigned char c = (unsigned char)*src;
        int ctl = c < 0x20 || c == 0x7f;
        if (n + (ctl ? 4 : 1) >= cap)
            break;
        if (ctl) {
            dst[n++] = '\\';
            dst[n++] = 'x';
            dst[n++] = hex[c >> 4];
            dst[n++] = hex[c & 15];
        } else {
            dst[n++] = (char)c;
        }
    }
    dst[n] = 0;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    char raw[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    e->code = code;
    copy_visible(e->msg, sizeof e->msg, raw);
    return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return ERR_FAIL;
    char raw[2 * ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(raw, ERR_MSG_MAX, fmt, ap);
    va_end(ap);
    size_t at = n < 0 ? 0 : (size_t)n;
    if (at > ERR_MSG_MAX - 1)
        at = ERR_MSG_MAX - 1;
    snprintf(raw + at, sizeof raw - at, ": %s", e->msg);
    copy_visible(e->msg, sizeof e->msg, raw);
    return e->code ? e->code : ERR_FAIL;
}

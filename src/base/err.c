// SPDX-License-Identifier: MIT
// Formats error messages in place, without allocating. Names from files may hold any byte: visible.h
// keeps one error one line.
// Easy to get wrong: the arguments may point into the message that is being replaced, so the text is
// formatted aside first; that scratch is longer than the message, so that a cut by vsnprintf in the
// middle of a character lies behind the cut that visible_copy makes.
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/visible.h"

enum { RAW_MAX = ERR_MSG_MAX + 4 };

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    char raw[RAW_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    e->code = code;
    visible_copy(e->msg, sizeof e->msg, raw);
    return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return ERR_FAIL;
    char raw[RAW_MAX], old[ERR_MSG_MAX];
    snprintf(old, sizeof old, "%s", e->msg);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    size_t at = visible_copy(e->msg, sizeof e->msg, raw);
    at += visible_copy(e->msg + at, sizeof e->msg - at, ": ");
    visible_copy(e->msg + at, sizeof e->msg - at, old);
    return e->code ? e->code : ERR_FAIL;
}

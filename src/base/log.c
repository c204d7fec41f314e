// SPDX-License-Identifier: MIT
// Formats one line on the stack and hands it to the caller's callback. A longer line is cut at 1023
// bytes, between characters; what names in files may hold is made visible, as in errors.
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/visible.h"

enum { LINE_MAX_BYTES = 1024 };

void log_line(const struct hooks *h, enum log_level level, const char *fmt, ...)
{
    if (!h || !h->log)
        return;
    char raw[LINE_MAX_BYTES + 4], line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    visible_copy(line, sizeof line, raw);
    h->log(h->user, level, line);
}

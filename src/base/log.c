// SPDX-License-Identifier: MIT
// Formats one line on the stack and hands it to the caller's callback; a longer line is cut at 1023 bytes.
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_line(const struct hooks *h, enum log_level level, const char *fmt, ...)
{
    if (!h || !h->log)
        return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    h->log(h->user, level, line);
}

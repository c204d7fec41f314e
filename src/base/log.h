// SPDX-License-Identifier: MIT
// What the library says while it works goes through callbacks that the caller gives.
#ifndef IV_BASE_LOG_H
#define IV_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

// log and progress are called on the thread that called the library, abort also on pool threads.
// Copied by value into whatever works; user must outlive it.
struct hooks {
    void *user;
    void (*log)(void *user, enum log_level level, const char *line);
    // done of total units of a stage ("decode", "vision", "prefill", "generate"...); total 0 = unknown
    void (*progress)(void *user, const char *stage, size_t done, size_t total);
    // true = stop as soon as possible; polled at least every few milliseconds of work, and also from
    // pool threads, so it must be thread-safe and cheap (read an atomic flag)
    bool (*abort)(void *user);
};

void log_line(const struct hooks *h, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline void hooks_progress(const struct hooks *h, const char *stage, size_t done,
                                  size_t total)
{
    if (h && h->progress)
        h->progress(h->user, stage, done, total);
}
static inline bool hooks_abort(const struct hooks *h)
{
    return h && h->abort && h->abort(h->user);
}

#endif

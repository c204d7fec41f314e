// SPDX-License-Identifier: MIT
// Questions and JSON lines from standard input.
//
// Reads whatever read(2) gives, so that a program at the other end of a pipe can wait for the
// answer to its first line before it sends the second; stdio would be free to ask for more.
//
// Easy to get wrong: the last line may lack its newline; a line may hold NUL, so its length is
// told; a read interrupted by Ctrl-C is an answer, not an error.

#include "linereader.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"
#include "signals.h"

enum { CHUNK = 64 << 10 };

// Makes room for a chunk (and a zero) behind end.
static bool grow(struct linereader *r)
{
    if (r->begin > 0) {
        memmove(r->data, r->data + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->begin = 0;
    }
    if (r->cap - r->end > CHUNK)
        return true;
    size_t cap = r->cap + r->cap / 2 + 2 * CHUNK;
    char *data = heap_realloc(r->data, cap, 1);
    if (!data) {
        errno = ENOMEM;
        return false;
    }
    r->data = data;
    r->cap = cap;
    return true;
}

static enum linereader_result hand_out(struct linereader *r, size_t len, size_t skip, char **line,
                                       size_t *n)
{
    *line = r->data + r->begin;
    r->begin += len + skip;
    if (len > 0 && (*line)[len - 1] == '\r')
        len--;
    (*line)[len] = 0;
    *n = len;
    r->number++;
    return LINE_OK;
}

enum linereader_result linereader_next(struct linereader *r, char **line, size_t *n)
{
    size_t seen = 0;
    *line = NULL;
    *n = 0;
    for (;;) {
        size_t have = r->end - r->begin;
        char *newline = have > seen ? memchr(r->data + r->begin + seen, '\n', have - seen) : NULL;
        if (newline)
            have = (size_t)(newline - (r->data + r->begin));
        if (have > r->max) {
            errno = EFBIG;
            return LINE_FAILED;
        }
        if (newline)
            return hand_out(r, have, 1, line, n);
        if (r->ended)
            return have ? hand_out(r, have, 0, line, n) : LINE_END;
        seen = have;
        if (!grow(r))
            return LINE_FAILED;
        if (r->before_wait)
            r->before_wait(r->user);
        struct pollfd fd[2] = {{.fd = r->fd, .events = POLLIN},
                               {.fd = signals_wake_fd(), .events = POLLIN}};
        signals_wake_drain();
        if (signals_caught())
            return LINE_STOPPED;
        // a signal from here on makes the second one readable
        if (poll(fd, 2, -1) < 0 && errno != EINTR)
            return LINE_FAILED;
        if (signals_caught()) // also when poll saw only that the other end closed
            return LINE_STOPPED;
        if (!fd[0].revents)
            continue;
        ssize_t got = read(r->fd, r->data + r->end, CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return LINE_FAILED;
        r->ended = got == 0;
        r->end += (size_t)got;
    }
}

void linereader_free(struct linereader *r)
{
    heap_free(r->data);
    r->data = NULL;
    r->begin = r->end = r->cap = 0;
}

// SPDX-License-Identifier: MIT
// Lines of a file descriptor, of any bytes, with a hard maximum.
#ifndef IV_APPS_LINEREADER_H
#define IV_APPS_LINEREADER_H

#include <stdbool.h>
#include <stddef.h>

// Set fd and max, zero the rest; linereader_free at the end.
struct linereader {
    int fd;
    size_t max; // bytes of a line, newline excluded
    char *data;
    size_t begin, end, cap; // data[begin, end) was read and not handed out yet
    bool ended;
    size_t number; // of the line handed out last, from 1
    // called before a read that may wait; NULL = none
    void (*before_wait)(void *user);
    void *user;
};

enum linereader_result {
    LINE_OK,
    LINE_END,
    LINE_STOPPED, // a signal came while waiting
    LINE_FAILED,  // errno: EFBIG = longer than max, ENOMEM, or of read()
};

// *line, without its newline (a carriage return before it is removed too) and with a zero behind
// its *n bytes, is valid until the next call.
enum linereader_result linereader_next(struct linereader *r, char **line, size_t *n);
void linereader_free(struct linereader *r);

#endif

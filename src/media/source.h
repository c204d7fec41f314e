// SPDX-License-Identifier: MIT
// The bytes of a media file, wherever they come from: a regular file, standard input or a FIFO (stored
// in an unlinked temporary file first, since videos are read twice), or the caller's memory.
#ifndef IV_MEDIA_SOURCE_H
#define IV_MEDIA_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "base/sha256.h"

// A moment on the monotonic clock after which work stops with ERR_LIMIT.
struct deadline {
    int64_t ns;     // 0 = never
    double seconds; // the limit, for the message
};
struct deadline deadline_in(double seconds); // <= 0 = never
// 0, ERR_ABORT when the hooks ask to stop, ERR_LIMIT when the time is over. `name` starts the message.
int deadline_check(const struct deadline *d, const struct hooks *hooks, const char *name,
                   struct err *e);

struct source_options {
    const struct hooks *hooks; // abort, progress "read" (bytes of a pipe); may be NULL
    struct deadline deadline;
    uint64_t max_bytes;  // of a regular file
    uint64_t max_stored; // of what a pipe may give
    double writer_s;     // how long a FIFO may wait for its writer; 0 = for ever
    const char *tmp_dir; // for that; existing folder
};

// What changes when a file's bytes are written: inode, size, times of the last change.
struct source_state {
    uint64_t dev, ino, size;
    struct timespec modified, changed;
};

// Fixed size once open: a file that grows is read up to the size it had.
struct source {
    int fd;     // -1 = memory
    bool named; // a file that others may write to, in the state below when it was opened
    struct source_state state;
    const uint8_t *mem; // borrowed
    uint64_t base;      // offset in the file where the bytes begin
    uint64_t size;
};

// path is plain bytes, never a URL or pattern; "-" is standard input, from its current position. Directories,
// block and character devices and sockets are refused (ERR_MEDIA), empty input too; more than max_bytes is
// ERR_LIMIT, a FIFO without a writer ERR_MEDIA. source_close releases; after a failure there is nothing to
// release. A FIFO or standard input is consumed. O_NONBLOCK stays untouched on descriptors that the caller
// shares. Any thread.
int source_open(struct source *s, const char *path, const struct source_options *o, struct err *e);
// The bytes stay the caller's and must outlive s.
void source_open_memory(struct source *s, const void *bytes, size_t n);
void source_close(struct source *s);

// Reads up to n bytes at offset `at`; bytes read, 0 at the end, -1 on an I/O error (errno).
ptrdiff_t source_read(const struct source *s, uint64_t at, void *buf, size_t n);

// ERR_MEDIA when the file has been written to since it was opened, so that not all that was read of it need be
// of one and the same content. Two writes within one tick of the system's clock (some milliseconds) look like one.
int source_unchanged(const struct source *s, const char *name, struct err *e);

// SHA-256 of all bytes; text is empty on failure. name starts messages.
int source_sha256(const struct source *s, const char *name, const struct hooks *hooks,
                  char text[SHA256_TEXT], struct err *e);

#endif

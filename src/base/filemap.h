// SPDX-License-Identifier: MIT
// Read-only memory map of a regular file, and whole small files.
#ifndef IV_BASE_FILEMAP_H
#define IV_BASE_FILEMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct filemap {
    const uint8_t *data; // NULL when size is 0
    size_t size;         // bytes at the time of opening
};

// Maps path. Directories, FIFOs and devices are refused. code = error code to use (ERR_MODEL ...).
int filemap_open(struct filemap *m, const char *path, int code, struct err *e);
void filemap_close(struct filemap *m);
// Brings n mapped bytes at p into memory, in order, and returns when they are there. Any thread.
void filemap_touch(const void *p, size_t n);
// Gives n mapped bytes at p back: they stay in the page cache, but do not count as this process's memory. (What was
// copied to large pages, base/large_pages.h, would be zeros then.)
void filemap_forget(const void *p, size_t n);
// Reads the whole file (at most max bytes) into *out, zero-terminated; caller owns it (mem_free).
int file_read(const char *path, size_t max, int code, char **out, size_t *n, struct err *e);

#endif

// SPDX-License-Identifier: MIT
// Weights that are read once for each token, in order, are read faster where a page is 2 MiB: every smaller one is
// looked up anew, under virtual machines in two tables (docs/SPEED_DECODING.md). Of a mapped file that is in the page
// cache in small pieces, nothing but a copy in the process's own memory has them.
#ifndef IV_BASE_LARGE_PAGES_H
#define IV_BASE_LARGE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

enum { LARGE_PAGE = 2 << 20 };

// Whether the system gives pages of that size to those who ask, and tells which there are (Linux 6.7).
bool large_pages_offered(void);

// Whether the system tells this process which pages of that file are in memory: those of its user, or that it may write.
bool large_pages_told(const char *path);

// Whether the page at p would gain by a copy: it is in the page cache as a whole and not mapped as one. p: in the
// mapping of a file of which that is told, a multiple of LARGE_PAGE. Reads nothing from a disk.
bool large_page_wanting(const void *p);

// Puts a copy of n_page pages in their place: the same bytes at the same addresses, read-only, no longer the file's.
// Nobody reads there meanwhile; different pages may be copied by several threads.
enum large_pages_result {
    LARGE_PAGES_COPIED, // all of them are large
    LARGE_PAGES_NONE,   // there is no memory, or none in large pages: they are as they were
    LARGE_PAGES_LOST // the system ran out of memory in the middle: nothing can be read there any more
};
enum large_pages_result large_pages_copy(const void *p, size_t n_page);

#endif

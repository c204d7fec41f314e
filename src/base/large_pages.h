// SPDX-License-Identifier: MIT
// Weights that are read once for each token, in order, are read faster where a page is 2 MiB: every smaller one is
// looked up anew, under virtual machines in two tables (docs/SPEED.md). Of a mapped file that is in the page cache in
// small pieces, nothing but a copy in the process's own memory has them.
#ifndef IV_BASE_LARGE_PAGES_H
#define IV_BASE_LARGE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

enum { LARGE_PAGE = 2 << 20 };

// Whether the system gives pages of that size to those who ask.
bool large_pages_offered(void);

// Which of the n_page pages from p on would gain by a copy: those that are in the page cache as a whole and not yet
// mapped as one. p: in a file's mapping, a multiple of LARGE_PAGE. Reads a byte of each page that is in memory.
// Files that this process may not write count as being in memory (mincore(2)).
void large_pages_wanting(const void *p, size_t n_page, bool *wanting);

// Puts a copy of n_page pages in their place: the same bytes at the same addresses, read-only, no longer the file's.
// Nobody reads there meanwhile; different pages may be copied by several threads.
enum large_pages_result {
    LARGE_PAGES_COPIED,
    LARGE_PAGES_NONE, // there is no memory, or none in large pages: they are as they were
    LARGE_PAGES_LOST // the system ran out of memory in the middle: there is nothing at those addresses any more
};
enum large_pages_result large_pages_copy(const void *p, size_t n_page);

#endif

// SPDX-License-Identifier: MIT
// Copies are made elsewhere and moved into place (mremap), which takes a page table's entries along.
//
// What is one page already is asked of /proc/self/pagemap (PAGEMAP_SCAN, Linux 6.7; kernel documentation:
// admin-guide/mm/pagemap). Where that is not to be had, nothing counts as large, and every copy as it should be.
//
// Easy to get wrong: moved or not, the pages belong to the file's mapping as far as munmap is concerned; MADV_DONTNEED
// on a copy would zero it.
#define _GNU_SOURCE // mremap, mincore
#include "base/large_pages.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

// As linux/fs.h declares them, which is newer than the headers of many systems.
struct scan_region {
    uint64_t start, end, categories;
};
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t inverted, mask, any_of, returned;
};
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct scan)
static const uint64_t SCAN_HUGE = 1 << 6;

static int open_pagemap(void)
{
    return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

// Whether the page at p is mapped as one; `unknown` where the system does not tell.
static bool is_large(int pagemap, const void *p, bool unknown)
{
    struct scan_region r = {0};
    uint64_t from = (uintptr_t)p;
    struct scan s = {.size = sizeof s,
                     .start = from,
                     .end = from + LARGE_PAGE,
                     .vec = (uintptr_t)&r,
                     .vec_len = 1,
                     .mask = SCAN_HUGE,
                     .returned = SCAN_HUGE};
    int n = pagemap < 0 ? -1 : ioctl(pagemap, PAGEMAP_SCAN_CALL, &s);
    return n < 0 ? unknown : n == 1 && r.start == from && r.end == from + LARGE_PAGE;
}

static bool in_memory(const void *p, size_t page)
{
    unsigned char here[LARGE_PAGE / 4096];
    size_t n = LARGE_PAGE / page;
    if (n > sizeof here || mincore((void *)(uintptr_t)p, LARGE_PAGE, here) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!(here[i] & 1))
            return false;
    return true;
}

// What `name` of the system's settings holds; false when there is none.
static bool setting(const char *name, char *text, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/kernel/mm/transparent_hugepage/%s", name);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool got = fgets(text, (int)size, f) != NULL;
    fclose(f);
    return got;
}

bool large_pages_offered(void)
{
    char size[32], enabled[64];
    return setting("hpage_pmd_size", size, sizeof size) && strtoul(size, NULL, 10) == LARGE_PAGE &&
           setting("enabled", enabled, sizeof enabled) && !strstr(enabled, "[never]");
}

void large_pages_wanting(const void *p, size_t n_page, bool *wanting)
{
    int pagemap = open_pagemap();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const char *at = p;
    for (size_t i = 0; i < n_page; i++, at += LARGE_PAGE) {
        wanting[i] = in_memory(at, page);
        if (!wanting[i])
            continue;
        (void)*(const volatile char *)at; // maps it, as large as it can be
        wanting[i] = !is_large(pagemap, at, false);
    }
    if (pagemap >= 0)
        close(pagemap);
}

// Puts the copy at `from`, which is whole and read-only, in the place of p.
static enum large_pages_result move(char *from, char *p, size_t bytes)
{
    unsigned char here[1];
    int pagemap = open_pagemap();
    bool large = is_large(pagemap, from, true);
    if (pagemap >= 0)
        close(pagemap);
    if (!large)
        return LARGE_PAGES_NONE;
    if (mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, p) != MAP_FAILED)
        return LARGE_PAGES_COPIED;
    return mincore(p, 1, here) == 0 ? LARGE_PAGES_NONE : LARGE_PAGES_LOST;
}

enum large_pages_result large_pages_copy(const void *p, size_t n_page)
{
    enum large_pages_result r = LARGE_PAGES_NONE;
    size_t bytes = n_page * LARGE_PAGE, room = bytes + LARGE_PAGE;
    char *block = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return r;
    size_t before = (LARGE_PAGE - (uintptr_t)block % LARGE_PAGE) % LARGE_PAGE;
    char *from = block + before;
    if (madvise(from, bytes, MADV_HUGEPAGE) == 0) {
        memcpy(from, p, bytes);
        if (mprotect(from, bytes, PROT_READ) == 0)
            r = move(from, (char *)(uintptr_t)p, bytes);
    }
    if (r != LARGE_PAGES_COPIED) {
        munmap(block, room);
        return r;
    }
    if (before > 0)
        munmap(block, before);
    munmap(from + bytes, LARGE_PAGE - before);
    return r;
}

// SPDX-License-Identifier: MIT
// Copies are made elsewhere and moved into place (mremap), which takes a page table's entries along. Each is a mapping
// of its own, of which a process may have some 65000.
//
// What is one page is asked of /proc/self/pagemap (PAGEMAP_SCAN; kernel documentation: admin-guide/mm/pagemap), what is
// in the page cache of mincore(2), which tells others than a file's user that everything is. (A read that must not wait
// would tell them, but starts reading.)
//
// Easy to get wrong: moved or not, the pages belong to the file's mapping as far as munmap is concerned; MADV_DONTNEED
// on a copy would zero it.
#define _GNU_SOURCE // mremap, mincore
#include "base/large_pages.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/first_line.h"

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

// 1 = the n_page pages at p are mapped as such, 0 = not, -1 = the system does not tell.
static int are_large(const void *p, size_t n_page)
{
    struct scan_region r = {0};
    uint64_t from = (uintptr_t)p, end = from + n_page * LARGE_PAGE;
    struct scan s = {.size = sizeof s,
                     .start = from,
                     .end = end,
                     .vec = (uintptr_t)&r,
                     .vec_len = 1,
                     .mask = SCAN_HUGE,
                     .returned = SCAN_HUGE};
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    long n = syscall(SYS_ioctl, fd, PAGEMAP_SCAN_CALL, &s);
    close(fd);
    return n < 0 ? -1 : n == 1 && r.start == from && r.end == end;
}

bool large_pages_offered(void)
{
    static const char somewhere = 0;
    const void *page = &somewhere - (uintptr_t)&somewhere % LARGE_PAGE;
    static const char settings[] = "/sys/kernel/mm/transparent_hugepage";
    char line[FIRST_LINE];
    return first_line(settings, "hpage_pmd_size", line) && strtoul(line, NULL, 10) == LARGE_PAGE &&
           first_line(settings, "enabled", line) && !strstr(line, "[never]") &&
           are_large(page, 1) >= 0;
}

bool large_pages_told(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 &&
           (st.st_uid == geteuid() || faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0);
}

static bool in_memory(const void *p)
{
    unsigned char here[LARGE_PAGE / 4096];
    size_t n = LARGE_PAGE / (size_t)sysconf(_SC_PAGESIZE);
    if (n > sizeof here || mincore((void *)(uintptr_t)p, LARGE_PAGE, here) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!(here[i] & 1))
            return false;
    return true;
}

bool large_page_wanting(const void *p)
{
    if (!in_memory(p))
        return false;
    (void)*(const volatile char *)p; // maps it, as large as it can be
    return are_large(p, 1) == 0;
}

// Puts the copy at `from`, which is whole and read-only, in the place of p.
static enum large_pages_result move(char *from, char *p, size_t bytes)
{
    if (are_large(from, bytes / LARGE_PAGE) != 1)
        return LARGE_PAGES_NONE;
    if (mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, p) != MAP_FAILED)
        return LARGE_PAGES_COPIED;
    // if the file's pages are gone already, the hole must not become anybody's
    void *hole =
        mmap(p, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return hole == MAP_FAILED ? LARGE_PAGES_NONE : LARGE_PAGES_LOST;
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
        (void)madvise(from, bytes, MADV_DONTDUMP); // nor is the file's mapping in a core dump
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

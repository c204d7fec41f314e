// SPDX-License-Identifier: MIT
// Heap door and arenas. Zeroing is part of the contract of calloc and big blocks, so nothing from
// another life of the memory can reach a result or a file.
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/size.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#define REDZONE        64
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#define REDZONE        0
#endif

enum { ALIGN = 64 };

static _Atomic uint64_t fail_countdown; // 0 = off; the one global here, used by tests only

static bool must_fail(void)
{
    uint64_t k = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (k && !atomic_compare_exchange_weak(&fail_countdown, &k, k - 1))
        ;
    return k == 1;
}

void mem_fail_after(uint64_t k)
{
    atomic_store(&fail_countdown, k);
}

void *mem_calloc(size_t n, size_t size)
{
    return must_fail() ? NULL : calloc(n ? n : 1, size ? size : 1);
}

void *mem_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (must_fail() || !mul_size(n, size, &bytes))
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

char *mem_strndup(const char *s, size_t n)
{
    size_t bytes;
    if (!add_size(n, 1, &bytes))
        return NULL;
    char *p = mem_calloc(bytes, 1);
    if (p && n)
        memcpy(p, s, n);
    return p;
}

void mem_free(void *p)
{
    free(p);
}

#ifdef HAVE_ASAN
// From the heap, so that LeakSanitizer sees a block that nobody released.
static void *pages_take(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, ALIGN, bytes) != 0)
        return NULL;
    return memset(p, 0, bytes);
}

static void pages_release(void *p, size_t bytes)
{
    (void)bytes;
    free(p);
}
#else
static void *pages_take(size_t bytes)
{
    // Smaller than a huge page, too: where Linux puts neighbours side by side, as a new session's caches, they share one.
    const size_t huge_from = (size_t)512 << 10;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= huge_from)
        (void)madvise(p, bytes, MADV_HUGEPAGE); // advice only
#endif
    return p;
}

static void pages_release(void *p, size_t bytes)
{
    munmap(p, bytes);
}
#endif

void *mem_alloc_big(size_t bytes)
{
    return must_fail() ? NULL : pages_take(bytes ? bytes : 1);
}

void mem_free_big(void *p, size_t bytes)
{
    if (p)
        pages_release(p, bytes ? bytes : 1);
}

size_t arena_cost(size_t bytes)
{
    size_t n;
    if (bytes > SIZE_MAX - (ALIGN - 1)) // round_up saturates below bytes
        return SIZE_MAX;
    return add_size(round_up(bytes, ALIGN), REDZONE, &n) ? n : SIZE_MAX;
}

int arena_init(struct arena *a, size_t bytes, const char *what, struct err *e)
{
    memset(a, 0, sizeof *a);
    a->base = mem_alloc_big(bytes);
    if (!a->base)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu bytes", what, bytes);
    a->cap = bytes;
    POISON(a->base, bytes);
    return 0;
}

void arena_free(struct arena *a)
{
    if (a->base)
        UNPOISON(a->base, a->cap);
    mem_free_big(a->base, a->cap);
    memset(a, 0, sizeof *a);
}

void *arena_push(struct arena *a, size_t bytes)
{
    size_t cost = arena_cost(bytes);
    if (a->failed || cost > a->cap - a->used) {
        a->failed = true;
        return NULL;
    }
    uint8_t *p = a->base + a->used;
    a->used += cost;
    if (a->used > a->peak)
        a->peak = a->used;
    UNPOISON(p, bytes);
    return p;
}

void *arena_push_n(struct arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (!mul_size(n, size, &bytes)) {
        a->failed = true;
        return NULL;
    }
    return arena_push(a, bytes);
}

size_t arena_mark(const struct arena *a)
{
    return a->used;
}

void arena_pop(struct arena *a, size_t mark)
{
    if (mark < a->used) {
        POISON(a->base + mark, a->used - mark);
        a->used = mark;
    }
    a->failed = false;
}

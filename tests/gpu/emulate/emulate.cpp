// SPDX-License-Identifier: MIT
// Fibers for the threads of a block, memory with guard pages, and the runtime's C functions (emulate.hpp).
//
// A fiber is entered once with ucontext and then switched: on x86-64 by exchanging stack pointers, elsewhere with
// _setjmp and _longjmp, which save no signal mask. One that waits names a word and the value it must leave; a round in
// which none could go on is a deadlock. Stacks begin at different lines of the cache: at the same one, the 32 of a
// warp would push each other out of it at every exchange.
//
// Threads may share the device: one piece of work runs at a time, under one lock. With EMULATE_LAZY=1 a stream's work
// runs only when somebody waits for that stream, so that whoever reads on another stream what was not waited for
// finds it undone. EMULATE_MEMORY=N: a device has N bytes, and refuses what is beyond them.
//
// EMULATE_DEVICES=N: so many devices, each with its memory, and a current one for each thread, the first at first. What
// a stream or a handle is given while its device is not the current one is refused, copies too, which a real
// runtime would take; and only the memory of the device that works can be touched: a fault, a message, exit status 3.
#undef _FORTIFY_SOURCE // its longjmp wants one stack

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "emulate.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

enum { LANES = 32, MAX_THREADS = 1024, STACK = 512 << 10, PAGE = 4096, MAX_SHARED = 227 << 10 };
enum { N_START = 256, START_STEP = 11 * 64 }; // places where stacks begin, bytes from one to the next
enum { MAX_DEVICES = 8, NO_DEVICE = -1 };

struct meeting { // of the lanes of one mask; kept at its lowest lane
    unsigned mask, arrived, yes, generation;
};

struct warp {
    meeting at[LANES];
    uint64_t value[LANES], result[LANES];
    int from[LANES];
    unsigned ballot[LANES];
};

#ifdef __x86_64__
typedef void *place;
// Goes on at `to`, until somebody switches to *from. Inlined and left by a jump, so that the processor's guesses where
// calls return stay right: the next fiber comes from the same calls. (128 bytes: the red zone.)
static inline __attribute__((always_inline)) void emulate_switch(place *from, place to)
{
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t"
                     "pushq %%rbp\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "movq %%rsp, (%0)\n\t"
                     "movq %1, %%rsp\n\t"
                     "popq %%rax\n\t"
                     "jmpq *%%rax\n"
                     "1:\tpopq %%rbp\n\t"
                     "leaq 128(%%rsp), %%rsp"
                     : "+D"(from), "+S"(to)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory", "cc");
}
#else
typedef jmp_buf place;
#define emulate_switch(from, to)                                                                   \
    do {                                                                                           \
        if (_setjmp(*(from)) == 0)                                                                 \
            _longjmp(to, 1);                                                                       \
    } while (0)
#endif

struct fiber {
#ifndef __x86_64__
    ucontext_t start;
#endif
    place at;
    char *stack;
    bool started, done;
    const unsigned *word; // waits while *word == value
    unsigned value;
    uint3 idx;
};

static fiber fibers[MAX_THREADS];
static warp warps[MAX_THREADS / LANES];
static unsigned n_thread, n_alive, n_arrived, generation, current;
static int n_yes, last_yes, last_all;
static const std::function<void()> *job;
static place scheduler;
static thread_local cudaError_t last_error;
static thread_local int current_device;
static std::recursive_mutex one_at_a_time; // guards everything here
typedef std::lock_guard<std::recursive_mutex> guard;
static char *dynamic_shared;

// EMULATE_MAJOR=9: kernels for Hopper, where they have a twin of its instructions
int emulate_major(void)
{
    const char *major = getenv("EMULATE_MAJOR");
    return major ? atoi(major) : 8;
}

static int n_device(void)
{
    const char *text = getenv("EMULATE_DEVICES");
    int n = text ? atoi(text) : 1;
    return n < 1 ? 1 : n > MAX_DEVICES ? MAX_DEVICES : n;
}

void emulate_fail(const char *what)
{
    fprintf(stderr, "emulate: %s; block %u %u %u, thread %u %u %u\n", what, blockIdx.x, blockIdx.y,
            blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    fflush(NULL);
    _Exit(3);
}

static void leave(void)
{
    emulate_switch(&fibers[current].at, scheduler);
}

static void wait_while(const unsigned *word, unsigned value)
{
    fibers[current].word = word;
    fibers[current].value = value;
    leave();
    fibers[current].word = NULL;
}

static void open_barrier(void)
{
    if (n_arrived < n_alive || n_arrived == 0)
        return;
    last_yes = n_yes;
    last_all = (int)n_alive;
    n_yes = 0;
    n_arrived = 0;
    generation++;
}

int emulate_vote(int p, int *all)
{
    unsigned g = generation;
    n_arrived++;
    n_yes += p != 0;
    open_barrier();
    if (g == generation)
        wait_while(&generation, g);
    *all = last_all;
    return last_yes;
}

void emulate_barrier(void)
{
    int all;
    emulate_vote(0, &all);
}

unsigned emulate_lane(void)
{
    return current % LANES;
}

uint64_t emulate_exchange(unsigned mask, uint64_t value, int from, bool yes, unsigned *ballot)
{
    warp *w = &warps[current / LANES];
    unsigned lane = current % LANES, first = current - lane;
    if (!(mask >> lane & 1))
        emulate_fail("a lane outside the mask it names");
    unsigned exists = n_thread - first >= LANES ? ~0u : (1u << (n_thread - first)) - 1;
    mask &= exists; // a last warp that is not full
    if (from >= 0 && !(mask >> from & 1))
        emulate_fail("a shuffle from a lane outside the mask");
    meeting *m = &w->at[__builtin_ctz(mask)];
    if (m->arrived && m->mask != mask)
        emulate_fail("lanes that meet name different masks");
    m->mask = mask;
    m->arrived |= 1u << lane;
    m->yes |= (unsigned)yes << lane;
    w->value[lane] = value;
    w->from[lane] = from < 0 ? (int)lane : from;
    if (m->arrived == mask) {
        for (unsigned i = 0; i < LANES; i++)
            if (mask >> i & 1) {
                w->result[i] = w->value[w->from[i]];
                w->ballot[i] = m->yes;
            }
        m->arrived = m->yes = 0;
        m->generation++;
    } else {
        wait_while(&m->generation, m->generation);
    }
    if (ballot)
        *ballot = w->ballot[lane];
    return w->result[lane];
}

void *emulate_dynamic_shared(void)
{
    return dynamic_shared;
}

static void fiber_main(void)
{
    for (;;) {
        (*job)();
        fibers[current].done = true;
        n_alive--;
        open_barrier(); // those that ended are not waited for
        leave();
    }
}

#ifndef __x86_64__
static void fiber_first(void)
{
    leave();
    fiber_main();
}
#endif

// f->at: at fiber_main, on a stack of its own.
static void begin(fiber *f)
{
    f->started = true;
    f->stack =
        (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->stack == MAP_FAILED || mprotect(f->stack, PAGE, PROT_NONE) != 0)
        emulate_fail("no memory for a fiber");
    size_t bytes = STACK - (size_t)(f - fibers) % N_START * START_STEP;
#ifdef __x86_64__
    void (*code)(void) = fiber_main;
    f->at = f->stack + bytes - 16; // where to go on, and what aligns
    memcpy(f->at, &code, sizeof code);
#else
    getcontext(&f->start);
    f->start.uc_stack.ss_sp = f->stack;
    f->start.uc_stack.ss_size = bytes;
    f->start.uc_link = NULL;
    makecontext(&f->start, fiber_first, 0);
    if (_setjmp(scheduler) == 0)
        setcontext(&f->start);
#endif
}

static void resume(unsigned i)
{
    fiber *f = &fibers[i];
    current = i;
    threadIdx = f->idx;
    if (!f->started)
        begin(f);
    emulate_switch(&scheduler, f->at);
}

static void run_block(bool descending)
{
    n_alive = n_thread;
    n_arrived = 0;
    n_yes = 0;
    for (unsigned i = 0; i < n_thread; i++) {
        fibers[i].done = false;
        fibers[i].word = NULL;
        fibers[i].idx = {i % blockDim.x, i / blockDim.x % blockDim.y,
                         i / (blockDim.x * blockDim.y)};
    }
    memset(warps, 0, (n_thread + LANES - 1) / LANES * sizeof warps[0]);
    while (n_alive) {
        bool moved = false;
        for (unsigned j = 0; j < n_thread; j++) {
            unsigned i = descending ? n_thread - 1 - j : j;
            fiber *f = &fibers[i];
            if (f->done || (f->word && *f->word == f->value))
                continue;
            resume(i);
            moved = true;
        }
        if (!moved)
            emulate_fail("the threads of a block wait for ever");
    }
}

// A block's dynamic shared memory: n bytes in front of a page that faults, the same ones for each launch.
static char *shared_memory(size_t n)
{
    enum { MOST = (MAX_SHARED + PAGE - 1) / PAGE * PAGE };
    static char *base;
    if (!base) {
        base = (char *)mmap(NULL, MOST + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED || mprotect(base + MOST, PAGE, PROT_NONE) != 0)
            emulate_fail("no memory for shared memory");
    }
    return base + MOST - (n + 15) / 16 * 16;
}

void emulate_run(dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread)
{
    uint64_t n = (uint64_t)block.x * block.y * block.z;
    if (n == 0 || n > MAX_THREADS || block.z > 64 || shared > MAX_SHARED || grid.x == 0 ||
        grid.x > 0x7fffffff || grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535) {
        last_error = shared > MAX_SHARED ? cudaErrorInvalidValue : cudaErrorInvalidConfiguration;
        return;
    }
    if (shared)
        dynamic_shared = shared_memory(shared);
    gridDim = grid;
    blockDim = block;
    n_thread = (unsigned)n;
    job = &thread;
    unsigned count = 0;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                if (shared)
                    memset(dynamic_shared, 0xff, shared);
                run_block(count++ % 2);
            }
    dynamic_shared = NULL;
}

// ---- memory

struct memory_block {
    char *base;
    size_t mapped, bytes;
    int device;
};
static std::map<void *, memory_block> blocks;
static size_t in_use[MAX_DEVICES]; // bytes of blocks
static struct sigaction before; // what a fault led to, until devices were watched
static int working = NO_DEVICE; // the device whose memory can be touched, where there are several

static void protect(const memory_block *b)
{
    bool open = b->device == working;
    if (mprotect(b->base, b->mapped - PAGE, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        emulate_fail("memory that cannot be protected");
}

// A fault: says so if it is another device's memory; any other is whose it was before, AddressSanitizer's perhaps.
static void fault(int number, siginfo_t *info, void *context)
{
    const char *at = (const char *)info->si_addr;
    for (const auto &b : blocks)
        if (at >= b.second.base && at < b.second.base + b.second.mapped - PAGE) {
            char text[96];
            snprintf(text, sizeof text, "memory of cuda:%d touched by work of cuda:%d",
                     b.second.device, working);
            emulate_fail(text);
        }
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        signal(number, SIG_DFL); // and again
}

// From here on device d works. Under one_at_a_time.
static void work_on(int d)
{
    static bool watching;
    if (n_device() == 1 || d == working)
        return;
    if (!watching) {
        struct sigaction a = {};
        sigaction(SIGSEGV, NULL, &before);
        a.sa_sigaction = fault;
        a.sa_flags = SA_SIGINFO | (before.sa_flags & SA_ONSTACK);
        sigaction(SIGSEGV, &a, NULL);
        watching = true;
    }
    working = d;
    for (const auto &b : blocks)
        protect(&b.second);
}

static size_t device_bytes(void)
{
    const char *bytes = getenv("EMULATE_MEMORY");
    return bytes ? (size_t)strtoull(bytes, NULL, 10) : (size_t)16 << 30;
}

// Of the device's memory.
static cudaError_t new_block(void **p, size_t n, int device)
{
    guard g(one_at_a_time);
    size_t used = (n + 15) / 16 * 16, pages = (used + PAGE - 1) / PAGE * PAGE;
    *p = NULL;
    if (used > device_bytes() || in_use[device] > device_bytes() - used)
        return last_error = cudaErrorMemoryAllocation;
    char *base = (char *)mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (base == MAP_FAILED)
        return last_error = cudaErrorMemoryAllocation;
    if (mprotect(base + pages, PAGE, PROT_NONE) != 0)
        return last_error = cudaErrorMemoryAllocation;
    memset(base, 0xff, pages);
    *p = base + pages - used;
    memory_block b = {base, pages + PAGE, used, device};
    in_use[device] += used;
    if (n_device() > 1)
        protect(&b);
    blocks[*p] = b;
    return cudaSuccess;
}

cudaError_t emulate_malloc(void **p, size_t n)
{
    return new_block(p, n, current_device);
}

struct emulate_graph {
    int device;
    std::vector<std::function<void()>> work;
};

struct CUstream_st {
    int device;
    std::deque<std::function<void()>> waiting;
    emulate_graph *recording; // under way
};

static bool is_lazy(void)
{
    const char *lazy = getenv("EMULATE_LAZY");
    return lazy && *lazy == '1';
}

// Whichever device is current.
static void submit(CUstream_st *s, std::function<void()> work)
{
    guard g(one_at_a_time);
    if (s && s->recording) {
        s->recording->work.push_back(std::move(work));
    } else if (s && is_lazy()) {
        s->waiting.push_back(std::move(work));
    } else {
        work_on(s ? s->device : current_device);
        work();
    }
}

cudaError_t emulate_submit(const void *stream, std::function<void()> work)
{
    CUstream_st *s = (CUstream_st *)const_cast<void *>(stream);
    if (s && s->device != current_device)
        return last_error = cudaErrorInvalidResourceHandle;
    submit(s, std::move(work));
    return cudaSuccess;
}

// Dynamic shared memory that a kernel has been allowed, on each device.
static std::map<std::pair<const void *, int>, size_t> allowed_shared;

void emulate_allow_shared(const void *kernel, size_t bytes)
{
    guard g(one_at_a_time);
    allowed_shared[{kernel, current_device}] = bytes;
}

bool emulate_shared_allowed(const void *kernel, size_t bytes)
{
    guard g(one_at_a_time);
    auto at = allowed_shared.find({kernel, current_device});
    return bytes <= 48 << 10 || (at != allowed_shared.end() && bytes <= at->second);
}

cudaError_t emulate_launch_error(cudaError_t e)
{
    return last_error = e;
}

static cudaError_t finish(cudaStream_t s)
{
    guard g(one_at_a_time);
    if (s)
        work_on(s->device);
    while (s && !s->waiting.empty()) {
        s->waiting.front()();
        s->waiting.pop_front();
    }
    return cudaSuccess;
}

extern "C" {

#undef cudaMalloc
cudaError_t emulate_c_malloc(void **p, size_t n) __asm__("cudaMalloc");
cudaError_t emulate_c_malloc(void **p, size_t n)
{
    return emulate_malloc(p, n);
}

cudaError_t cudaFree(void *p)
{
    guard g(one_at_a_time);
    if (!p)
        return cudaSuccess;
    auto at = blocks.find(p);
    if (at == blocks.end())
        return last_error = cudaErrorInvalidValue;
    munmap(at->second.base, at->second.mapped);
    in_use[at->second.device] -= at->second.bytes;
    blocks.erase(at);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int value, size_t n)
{
    guard g(one_at_a_time);
    work_on(current_device);
    memset(p, value, n);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t s)
{
    return emulate_submit(s, [=] { memset(p, value, n); });
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind)
{
    guard g(one_at_a_time);
    (void)kind;
    work_on(current_device);
    memmove(dst, src, n);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t s)
{
    (void)kind;
    return emulate_submit(s, [=] { memmove(dst, src, n); });
}

// ---- the rest of the runtime

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = n_device();
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= n_device())
        return last_error = cudaErrorInvalidDevice;
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    *p = cudaDeviceProp();
    if (device < 0 || device >= n_device())
        return cudaErrorInvalidDevice;
    strcpy(p->name, "emulated");
    p->major = 8;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = device_bytes();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr a, int device)
{
    if (device < 0 || device >= n_device())
        return last_error = cudaErrorInvalidDevice;
    *value = a == cudaDevAttrMaxSharedMemoryPerBlock        ? 48 << 10
             : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? MAX_SHARED
             : a == cudaDevAttrMultiProcessorCount          ? 4
             : a == cudaDevAttrComputeCapabilityMajor       ? emulate_major()
                                                            : 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    *s = new CUstream_st();
    (*s)->device = current_device;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    finish(s);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s && s->recording)
        return last_error = cudaErrorStreamCaptureUnsupported;
    return finish(s);
}

struct emulate_event {
    struct timespec at;
    cudaStream_t stream;
    int device;
};

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    *e = new emulate_event();
    (*e)->device = current_device;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    if (e->device != (s ? s->device : current_device))
        return last_error = cudaErrorInvalidResourceHandle;
    e->stream = s;
    clock_gettime(CLOCK_MONOTONIC, &e->at);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    return finish(e->stream);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = (float)((double)(to->at.tv_sec - from->at.tv_sec) * 1e3 +
                  (double)(to->at.tv_nsec - from->at.tv_nsec) * 1e-6);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    (void)flags;
    return cudaStreamCreate(s);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    (void)flags;
    return cudaEventCreate(e);
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    guard g(one_at_a_time);
    *all = device_bytes();
    size_t taken = in_use[current_device];
    *left = *all - (taken < *all ? taken : *all);
    return cudaSuccess;
}

cudaError_t emulate_host_alloc(void **p, size_t n, unsigned flags) __asm__("cudaHostAlloc");
cudaError_t emulate_host_alloc(void **p, size_t n, unsigned flags)
{
    (void)flags;
    *p = malloc(n);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t emulate_malloc_async(void **p, size_t n, cudaStream_t s) __asm__("cudaMallocAsync");
cudaError_t emulate_malloc_async(void **p, size_t n, cudaStream_t s)
{
    return new_block(p, n, s ? s->device : current_device);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t s)
{
    submit(s, [=] { cudaFree(p); });
    return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *p, int device)
{
    *p = NULL;
    return device >= 0 && device < n_device() ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t p, enum cudaMemPoolAttr a, void *value)
{
    (void)p, (void)a, (void)value;
    return cudaSuccess;
}

// The pool keeps nothing: what is freed is free at once.
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t p, enum cudaMemPoolAttr a, void *value)
{
    (void)p, (void)a;
    *(uint64_t *)value = 0;
    return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t p, size_t keep)
{
    (void)p, (void)keep;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind, cudaStream_t s)
{
    (void)kind;
    return emulate_submit(s, [=] {
        for (size_t i = 0; i < height; i++)
            memmove((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width);
    });
}

cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t s)
{
    return emulate_submit(s, [=] {
        for (size_t i = 0; i < height; i++)
            memset((char *)p + i * pitch, value, width);
    });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
    (void)mode;
    if (!s || s->recording)
        return last_error = cudaErrorStreamCaptureUnsupported;
    s->recording = new emulate_graph();
    s->recording->device = s->device;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    *g = s->recording;
    s->recording = NULL;
    return *g ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags)
{
    (void)flags;
    *e = new emulate_graph(*g);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    cudaError_t status = e->device == (s ? s->device : current_device)
                             ? cudaSuccess
                             : last_error = cudaErrorInvalidResourceHandle;
    for (size_t i = 0; i < e->work.size() && status == cudaSuccess; i++)
        status = emulate_submit(s, e->work[i]);
    return status;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t e)
{
    return cudaGetErrorString(e);
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess                      ? "no error"
           : e == cudaErrorInvalidValue          ? "invalid argument"
           : e == cudaErrorMemoryAllocation      ? "out of memory"
           : e == cudaErrorInvalidConfiguration  ? "invalid configuration argument"
           : e == cudaErrorInvalidDevice         ? "invalid device ordinal"
           : e == cudaErrorInvalidResourceHandle ? "invalid resource handle"
                                                 : "no device";
}
}

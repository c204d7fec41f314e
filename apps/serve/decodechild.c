// SPDX-License-Identifier: MIT
// The decoding process: media of strangers meet FFmpeg here and nowhere else in the server.
//
//   standard input, mapped -> iv_decode -> messages and pictures on standard output (decodewire.h)
//
// Before the first byte is read it gives up what it does not need: memory, processor time and file size are limited,
// no file can be opened, no process or thread started, nothing sent: seccomp ends it at the first other system call. It has no
// other descriptors and no secrets in its environment (decoder.c sees to that). It dies with its parent.
//
// Easy to get wrong: FFmpeg's libraries must be open before (iv_build_info opens them); libraries that look for a
// configuration file when they are first used must be told "no such file", not be killed; sanitizers need system calls
// and address space of their own.

#include "decodewire.h"

#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ivchat.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { ARGUMENTS = 11, PIECES_MAX = 512 };

static int limit(int what, rlim_t n)
{
    return setrlimit((__rlimit_resource_t)what, &(struct rlimit){n, n});
}

static bool limit_resources(unsigned cpu_s, unsigned long memory_mib)
{
    bool ok = limit(RLIMIT_CORE, 0) == 0 && limit(RLIMIT_CPU, cpu_s) == 0 &&
              limit(RLIMIT_FSIZE, 0) == 0 && limit(RLIMIT_NOFILE, 8) == 0;
    if (!SANITIZED)
        ok = ok && limit(RLIMIT_AS, (rlim_t)memory_mib << 20) == 0;
    return ok;
}

// Reading, writing, memory, time; looking for files finds none; everything else ends the process.
static bool confine(void)
{
    static const int allowed[] = {
        SCMP_SYS(read),
        SCMP_SYS(write),
        SCMP_SYS(writev),
        SCMP_SYS(close),
        SCMP_SYS(munmap),
        SCMP_SYS(mremap),
        SCMP_SYS(madvise),
        SCMP_SYS(brk),
        SCMP_SYS(futex),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(clock_getres),
        SCMP_SYS(gettimeofday),
        SCMP_SYS(getrandom),
        SCMP_SYS(sched_yield),
        SCMP_SYS(sched_getaffinity),
        SCMP_SYS(lseek),
        SCMP_SYS(fstat),
        SCMP_SYS(getpid),
        SCMP_SYS(gettid),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(membarrier),
        SCMP_SYS(sysinfo),
    };
    static const int absent[] = {
        SCMP_SYS(open),       SCMP_SYS(openat),     SCMP_SYS(openat2),  SCMP_SYS(access),
        SCMP_SYS(faccessat),  SCMP_SYS(faccessat2), SCMP_SYS(stat),     SCMP_SYS(lstat),
        SCMP_SYS(newfstatat), SCMP_SYS(statx),      SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return false;
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!f)
        return false;
    int rc = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed && rc == 0; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; i < sizeof absent / sizeof *absent && rc == 0; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOENT), absent[i], 0);
    // memory yes, code no
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    return rc == 0;
}

static bool put(const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t k = write(STDOUT_FILENO, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static int said(bool ok)
{
    return ok ? IV_OK : IV_ERR_ABORT;
}

// What is being decoded.
struct work {
    uint64_t width, height, slot;
};

static int say_video(void *user, const struct iv_frames *f, struct iv_error *e)
{
    struct work *w = user;
    struct decode_msg m = {.magic = DECODE_MAGIC,
                           .say = DECODE_VIDEO,
                           .count = f->n_frame,
                           .width = f->width,
                           .height = f->height,
                           .frame_count = f->frame_count,
                           .fps = f->fps,
                           .duration_s = f->duration_s};
    (void)e;
    (void)snprintf(m.sha256, sizeof m.sha256, "%s", f->sha256);
    w->width = f->width;
    w->height = f->height;
    return said(put(&m, sizeof m) && put(f->frame_index, f->n_frame * sizeof *f->frame_index));
}

static int say_frame(void *user, const struct iv_frame *f, struct iv_error *e)
{
    struct work *w = user;
    struct decode_msg m = {.magic = DECODE_MAGIC,
                           .say = DECODE_FRAME,
                           .has_pixels = f->rgb != NULL,
                           .slot = f->slot + w->slot,
                           .width = f->width ? f->width : w->width,
                           .height = f->height ? f->height : w->height};
    (void)e;
    (void)snprintf(m.sha256, sizeof m.sha256, "%s", f->sha256 ? f->sha256 : "");
    return said(put(&m, sizeof m) && (!f->rgb || put(f->rgb, m.width * m.height * 3)));
}

static int finish(int status)
{
    struct decode_msg m = {.magic = DECODE_MAGIC, .say = DECODE_END, .status = status};
    return put(&m, sizeof m) && status == IV_OK ? 0 : 1;
}

// "AT:N,AT:N": each a picture.
static int decode_pieces(const uint8_t *bytes, size_t n, const char *pieces,
                         struct iv_decode_options *o)
{
    struct work *w = o->user;
    int rc = IV_OK;
    o->image = true;
    for (char *end; *pieces && rc == IV_OK; pieces = end + (*end == ','), w->slot++) {
        unsigned long long at = strtoull(pieces, &end, 10);
        unsigned long long len = *end == ':' ? strtoull(end + 1, &end, 10) : 0;
        if (len == 0 || at > n || len > n - at || w->slot >= PIECES_MAX)
            return IV_ERR_USAGE;
        rc = iv_decode(bytes + at, (size_t)len, o, NULL);
    }
    return rc;
}

// argv: program, DECODE_VERB, kind, frames, rate, start, end, most seconds of video, most pixels, seconds of
// work, MiB, pieces
int decodechild_main(int argc, char *const *argv)
{
    struct stat st;
    struct work w = {0};
    struct iv_decode_options o = iv_decode_options_default();
    if (argc != ARGUMENTS + 1 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return 2;
    unsigned cpu_s = (unsigned)strtoul(argv[9], NULL, 10);
    o.image = strcmp(argv[2], "image") == 0;
    o.n_frame = (int)strtol(argv[3], NULL, 10);
    o.rate = strtod(argv[4], NULL);
    o.start_s = strtod(argv[5], NULL);
    o.end_s = strtod(argv[6], NULL);
    o.max_duration_s = strtod(argv[7], NULL);
    o.max_pixels = (size_t)strtoull(argv[8], NULL, 10);
    o.max_seconds = cpu_s;
    o.user = &w;
    o.begin = say_video;
    o.frame = say_frame;
    // looks at the processor and opens FFmpeg's libraries, which later it may not
    (void)iv_build_info();
    if (fstat(STDIN_FILENO, &st) != 0 || st.st_size <= 0)
        return 2;
    const uint8_t *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
    if (bytes == MAP_FAILED || !limit_resources(cpu_s, strtoul(argv[10], NULL, 10)))
        return 2;
    if (!SANITIZED && !confine())
        return 2;
    if (strcmp(argv[2], "frames") == 0)
        return finish(decode_pieces(bytes, (size_t)st.st_size, argv[11], &o));
    return finish(iv_decode(bytes, (size_t)st.st_size, &o, NULL));
}

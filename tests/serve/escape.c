// SPDX-License-Identifier: MIT
// Preloaded into the decoding process by tests/apps/test_serve_confined.py, as somebody who has taken it over: at its
// first write, which comes after the confinement, it does what $LD_IVCHAT_ESCAPE says. Exit code 77: that went well;
// 78: it was refused; a signal: the process did not outlive it. Others are lies:
//
//   blind:WIDTH          pictures of that width have no pixels
//   name:WIDTH:SHA256    they are another one
//   more:0               a video has one frame more than was asked for
//
// Easy to get wrong: the server loads this as well and must not notice; only variables of the linker reach the decoder.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "decodewire.h"

__attribute__((visibility("default"))) ssize_t write(int fd, const void *bytes, size_t n);

static const char *wish;

__attribute__((constructor)) static void look(void)
{
    char line[4096] = "";
    FILE *f = fopen("/proc/self/cmdline", "r");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    if (f)
        (void)fclose(f);
    const char *verb = line + strlen(line) + 1;
    if (n == 0 || verb >= line + n || strcmp(verb, DECODE_VERB) != 0)
        return;
    wish = getenv("LD_IVCHAT_ESCAPE");
}

static long go(const char *what)
{
    static const struct {
        const char *name;
        long number, a, b, c;
    } calls[] = {
        {"socket", SYS_socket, 2, 1, 0},
        {"clone", SYS_clone, 17, 0, 0},
        {"kill", SYS_kill, 1, 0, 0},
        {"ptrace", SYS_ptrace, 16, 1, 0},
        {"memfd", SYS_memfd_create, 0, 0, 0},
        {"prctl", SYS_prctl, 38, 0, 0},
        {"setrlimit", SYS_setrlimit, 0, 0, 0},
        {"getppid", SYS_getppid, 0, 0, 0},
        {"dup", SYS_dup, 0, 0, 0},
        {"pipe", SYS_pipe2, 0, 0, 0},
        {"ioctl", SYS_ioctl, 0, 0x5401, 0},
        {"uname", SYS_uname, 0, 0, 0},
    };
    char *const nothing[] = {NULL};
    if (strcmp(what, "exec") == 0)
        return syscall(SYS_execve, "/bin/true", nothing, nothing);
    if (strcmp(what, "open") == 0)
        return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
    if (strcmp(what, "unlink") == 0)
        return syscall(SYS_unlinkat, AT_FDCWD, "/nowhere", 0);
    if (strcmp(what, "code") == 0)
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                       MAP_FAILED
                   ? -1
                   : 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i].name, what) == 0)
            return syscall(calls[i].number, calls[i].a, calls[i].b, calls[i].c, 0, 0);
    }
    return -1;
}

static ssize_t send(int fd, const void *bytes, size_t n)
{
    return syscall(SYS_write, fd, bytes, n);
}

// What is sent in place of a message; *left bytes behind it are not sent.
static struct decode_msg lie(struct decode_msg m, size_t *left)
{
    char *end;
    bool blind = strncmp(wish, "blind:", 6) == 0;
    if (m.say != DECODE_FRAME || m.width != strtoul(strchr(wish, ':') + 1, &end, 10))
        return m;
    if (blind) {
        *left = (size_t)(m.width * m.height) * 3;
        m.has_pixels = 0;
    } else {
        (void)snprintf(m.sha256, sizeof m.sha256, "%s", end + 1);
    }
    return m;
}

// One frame more: of the number, of the list of indices behind it, of the frames.
static void lie_more(int fd, struct decode_msg *m, bool *index)
{
    static uint64_t count;
    if (m->say == DECODE_VIDEO) {
        count = m->count++;
        *index = true;
    } else if (m->say == DECODE_END) {
        struct decode_msg again = {.magic = DECODE_MAGIC, .say = DECODE_FRAME, .slot = count};
        (void)send(fd, &again, sizeof again);
    }
}

static ssize_t lie_instead(int fd, const void *bytes, size_t n)
{
    static size_t left;
    static bool index;
    struct decode_msg m = {0};
    if (left > 0) {
        left -= n < left ? n : left;
        return (ssize_t)n;
    }
    if (n == sizeof m)
        memcpy(&m, bytes, sizeof m);
    if (m.magic == DECODE_MAGIC && wish[0] == 'm') {
        lie_more(fd, &m, &index);
    } else if (m.magic == DECODE_MAGIC) {
        m = lie(m, &left);
    } else {
        (void)send(fd, bytes, n);
        if (index)
            (void)send(fd, (const char *)bytes + n - sizeof(int32_t), sizeof(int32_t));
        index = false;
        return (ssize_t)n;
    }
    return send(fd, &m, sizeof m);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (wish && strchr(wish, ':'))
        return lie_instead(fd, bytes, n);
    if (wish && strcmp(wish, "nothing") != 0)
        (void)syscall(SYS_exit_group, go(wish) < 0 ? 78 : 77);
    return send(fd, bytes, n);
}

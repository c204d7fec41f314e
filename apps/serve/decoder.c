// SPDX-License-Identifier: MIT
// The server's side of the decoding process.
//
//   posix_spawn of this very program with DECODE_VERB: no shell, no name of a stranger's file among the arguments
//   descriptors: 0 the media, 1 a pipe to us, 2 nowhere; the rest is closed
//
// Easy to get wrong: what comes through the pipe is as untrusted as the media: each number is checked before memory
// is taken for it; a process that neither writes nor ends is killed when its time is over; a killed one must be waited for;
// posix_spawn and not fork, whose copy of a process with gigabytes of weights would take its page tables along.

#define _GNU_SOURCE // posix_spawn_file_actions_addclosefrom_np
#include "decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap.h"
#include "jobs.h"

enum { NUMBERS = 9, NUMBER = 32, POLL_MS = 50, ENVIRONMENT_MAX = 256, GRACE_S = 5 };

extern char **environ;

// What the dynamic linker and sanitizers need. The rest may hold secrets, and what a process that was taken over knows
// it can draw into a frame.
static void clean_environment(char *out[ENVIRONMENT_MAX])
{
    static const char *const kept[] = {"LD_",   "ASAN_",  "LSAN_",
                                       "TSAN_", "UBSAN_", "GLIBC_TUNABLES="};
    size_t n = 0;
    for (char **v = environ; *v && n + 1 < ENVIRONMENT_MAX; v++) {
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
            if (strncmp(*v, kept[i], strlen(kept[i])) == 0) {
                out[n++] = *v;
                break;
            }
        }
    }
    out[n] = NULL;
}

static char *pieces_text(const struct item *item)
{
    char *text = heap_calloc(item->n_piece + 1, 44);
    size_t at = 0;
    for (size_t i = 0; text && i < item->n_piece; i++)
        at += (size_t)snprintf(text + at, 44, "%s%llu:%llu", i ? "," : "",
                               (unsigned long long)item->piece[i].at,
                               (unsigned long long)item->piece[i].n);
    return text;
}

static bool spawn(struct decoder *d, int to)
{
    const struct decoder_order *o = &d->order;
    char number[NUMBERS][NUMBER], *env[ENVIRONMENT_MAX], *pieces = pieces_text(o->item);
    const char *kind = o->item->piece ? "frames" : o->image ? "image" : "video";
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    if (!pieces)
        return false;
    (void)snprintf(number[0], NUMBER, "%d", o->n_frame);
    (void)snprintf(number[1], NUMBER, "%.17g", o->rate);
    (void)snprintf(number[2], NUMBER, "%.17g", o->start_s);
    (void)snprintf(number[3], NUMBER, "%.17g", o->end_s);
    (void)snprintf(number[4], NUMBER, "%.17g", o->limits.max_duration_s);
    (void)snprintf(number[5], NUMBER, "%llu", (unsigned long long)o->limits.max_pixels);
    (void)snprintf(number[6], NUMBER, "%u", o->limits.seconds);
    (void)snprintf(number[7], NUMBER, "%u", o->limits.memory_mib);
    char *argv[] = {"ivchat",  DECODE_VERB, (char *)(uintptr_t)kind,
                    number[0], number[1],   number[2],
                    number[3], number[4],   number[5],
                    number[6], number[7],   pieces,
                    NULL};
    clean_environment(env);
    (void)sigemptyset(&none);
    bool ok = posix_spawn_file_actions_init(&actions) == 0 && posix_spawnattr_init(&attr) == 0;
    ok = ok && posix_spawn_file_actions_adddup2(&actions, o->item->fd, 0) == 0 &&
         posix_spawn_file_actions_adddup2(&actions, to, 1) == 0 &&
         posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) == 0 &&
         posix_spawn_file_actions_addclosefrom_np(&actions, 3) == 0 &&
         posix_spawnattr_setsigmask(&attr, &none) == 0 &&
         posix_spawnattr_setpgroup(&attr, 0) == 0 && // a Ctrl-C at the terminal is the server's
         posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP) == 0 &&
         posix_spawn(&d->pid, "/proc/self/exe", &actions, &attr, argv, env) == 0;
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    heap_free(pieces);
    return ok;
}

// n bytes of the pipe. IV_OK, IV_ERR_MEDIA (the process has gone), IV_ERR_LIMIT (its time is over), IV_ERR_ABORT.
static int take(struct decoder *d, void *to, size_t n)
{
    char *p = to;
    while (n > 0) {
        struct pollfd f = {.fd = d->from, .events = POLLIN};
        if (d->order.stop && d->order.stop(d->order.stop_user))
            return IV_ERR_ABORT;
        if (clock_now_ns() > d->deadline_ns)
            return IV_ERR_LIMIT;
        if (poll(&f, 1, POLL_MS) <= 0)
            continue;
        ssize_t k = read(d->from, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return IV_ERR_MEDIA;
        p += k;
        n -= (size_t)k;
    }
    return IV_OK;
}

static int take_video(struct decoder *d)
{
    const struct decode_msg *m = &d->msg;
    if (d->index || m->count < 1 || m->count > (uint64_t)d->order.n_frame)
        return IV_ERR_MEDIA; // never more than were ordered, and memory was judged by that
    d->head = *m;
    d->index = heap_calloc((size_t)m->count, sizeof *d->index);
    return d->index ? take(d, d->index, (size_t)m->count * sizeof *d->index) : IV_ERR_LIMIT;
}

static int take_pixels(struct decoder *d)
{
    const struct decode_msg *m = &d->msg;
    uint64_t max = d->order.limits.max_pixels;
    if (d->index && (m->width != d->head.width || m->height != d->head.height))
        return IV_ERR_MEDIA;
    if (m->width < 1 || m->height < 1 || m->width > max || m->height > max / m->width)
        return IV_ERR_LIMIT;
    size_t n = (size_t)(m->width * m->height) * 3;
    if (n > d->cap) {
        heap_free(d->rgb);
        d->rgb = heap_calloc(n, 1);
        d->cap = d->rgb ? n : 0;
    }
    return d->rgb ? take(d, d->rgb, n) : IV_ERR_LIMIT;
}

// The next message with what follows it.
static int listen_on(struct decoder *d)
{
    int rc = take(d, &d->msg, sizeof d->msg);
    if (rc != IV_OK)
        return rc;
    d->msg.sha256[DIGEST_TEXT - 1] = 0;
    if (d->msg.magic != DECODE_MAGIC)
        return IV_ERR_MEDIA;
    switch (d->msg.say) {
    case DECODE_VIDEO:
        return take_video(d);
    case DECODE_FRAME:
        return d->msg.has_pixels ? take_pixels(d) : IV_OK;
    case DECODE_END:
        return d->msg.status < 0 && d->msg.status >= IV_ERR_ABORT ? d->msg.status : IV_ERR_MEDIA;
    default:
        return IV_ERR_MEDIA;
    }
}

static void begin(struct decoder *d, const struct decoder_order *order, int from)
{
    *d = (struct decoder){.order = *order, .from = from};
    d->deadline_ns = clock_now_ns() + (int64_t)(order->limits.seconds + GRACE_S) * 1000000000;
}

static int first_frame(struct decoder *d)
{
    int rc;
    do {
        rc = listen_on(d);
    } while (rc == IV_OK && d->msg.say != DECODE_FRAME);
    d->ahead = rc == IV_OK;
    return rc;
}

int decoder_open(struct decoder *d, const struct decoder_order *order)
{
    int pipe_of[2];
    *d = (struct decoder){.from = -1};
    if (pipe2(pipe_of, O_CLOEXEC) != 0)
        return IV_ERR_FAIL;
    begin(d, order, pipe_of[0]);
    bool ok = spawn(d, pipe_of[1]);
    (void)close(pipe_of[1]);
    return ok ? first_frame(d) : IV_ERR_FAIL;
}

int decoder_listen(struct decoder *d, const struct decoder_order *order, int from)
{
    begin(d, order, from);
    return first_frame(d);
}

int decoder_next(void *user, struct iv_frame *f, struct iv_error *e)
{
    struct decoder *d = user;
    int rc = IV_OK;
    if (!d->ahead)
        rc = listen_on(d);
    d->ahead = false;
    if (rc == IV_OK && d->msg.say != DECODE_FRAME)
        rc = IV_ERR_MEDIA;
    if (rc != IV_OK) {
        (void)snprintf(e->message, sizeof e->message, "the media cannot be decoded");
        return rc;
    }
    *f = (struct iv_frame){.slot = (size_t)d->msg.slot,
                           .rgb = d->msg.has_pixels ? d->rgb : NULL,
                           .width = (size_t)d->msg.width,
                           .height = (size_t)d->msg.height,
                           .sha256 = d->msg.sha256[0] ? d->msg.sha256 : NULL};
    return IV_OK;
}

void decoder_close(struct decoder *d)
{
    int status;
    if (d->from >= 0)
        (void)close(d->from);
    if (d->pid > 0) {
        (void)kill(d->pid, SIGKILL); // done, or not wanted any more
        while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    heap_free(d->rgb);
    heap_free(d->index);
    *d = (struct decoder){.from = -1};
}

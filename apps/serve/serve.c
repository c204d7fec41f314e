// SPDX-License-Identifier: MIT
// `ivchat serve`: the life of the server.
//
//   check options -> listen (health says 503) -> load the model -> serve -> a signal: no new work, the rest is
//   finished within --grace, else stopped, and its clients are told -> exit 128 + signal
//
// Easy to get wrong: handlers may look at everything in struct server, so all of it is there before the first
// connection, and goes only when the last handler has returned: connections, then conversations, then media, then the
// model.

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "heap.h"
#include "httpd.h"
#include "mediacache.h"
#include "savefile.h"
#include "signals.h"
#include "talks.h"
#include "verbs.h"
#include "work.h"

enum {
    REPLY_S = 5, // for what is left of replies, also of answers that were stopped
    IDLE_TALKS = 32,
    SWEEP_MS = 500,
    DECODE_S = 120,
    DECODE_MIB = 3072,
};

void server_note(struct server *s, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    flockfile(stderr); // the console is written for one thread
    console_note(s->con, "%s", line);
    funlockfile(stderr);
}

size_t server_positions(const struct server *s)
{
    return s->s->ctx ? (size_t)s->s->ctx : (size_t)iv_engine_info(s->engine)->llm_n_ctx_max;
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 ||
           strcmp(host, "::1") == 0;
}

static int check(struct work *w, struct server *s)
{
    const struct settings *o = w->s;
    int rc = work_check(w);
    if (rc == IV_OK && o->api_key)
        rc = apikeys_read(&s->keys, o->api_key, o->api_key == getenv("IVCHAT_API_KEY"), &w->error);
    if (rc != IV_OK)
        return rc;
    if (o->num_frames > o->max_frames)
        return app_error(&w->error, IV_ERR_USAGE, "--num-frames: %d, --max-frames is %d",
                         o->num_frames, o->max_frames);
    s->files.fd = -1;
    if (o->media_path && mediapath_open(&s->files, o->media_path) != 0)
        return app_error(&w->error, IV_ERR_USAGE, "--media-path: \"%.200s\" is no folder to read",
                         o->media_path);
    if (!is_loopback(o->host) && s->keys.n == 0)
        console_warn(w->con, "--host %s without --api-key: whoever reaches this port may use it",
                     o->host);
    if (!is_loopback(o->host) && s->keys.n > 0 && !o->ssl_cert_file)
        console_warn(w->con,
                     "--host %s without --ssl-cert-file: keys and videos travel unencrypted",
                     o->host);
    return IV_OK;
}

static int make(struct work *w, struct server *s)
{
    const struct settings *o = w->s;
    s->limits = (struct decoder_limits){.max_duration_s = o->max_duration,
                                        .max_pixels = (uint64_t)1 << 26,
                                        .seconds = DECODE_S,
                                        .memory_mib = DECODE_MIB};
    s->max_media_bytes = (uint64_t)1 << 30;
    s->most_bytes = o->max_body * 4 > (uint64_t)1 << 30 ? o->max_body * 4 : (uint64_t)1 << 30;
    s->started = (int64_t)time(NULL);
    s->retry_s = 2;
    s->store = store_open(o->store_mib << 20);
    s->media = mediacache_open(s, (uint64_t)1 << 30);
    s->talks = talks_open(s, o->cache_mib > 0 ? IDLE_TALKS : 0);
    s->queue = queue_open((size_t)o->parallel, (size_t)o->queue);
    if (!s->store || !s->media || !s->talks || !s->queue || counters_init(&s->counters) != 0 ||
        pthread_mutex_init(&s->tokens, NULL) != 0)
        return app_error(&w->error, IV_ERR_LIMIT, "out of memory or threads");
    return IV_OK;
}

static void unmake(struct server *s)
{
    talks_close(s->talks);
    mediacache_close(s->media);
    store_close(s->store);
    queue_free(s->queue);
    mediapath_close(&s->files);
}

// Until a signal comes.
static void wait_for_signal(struct httpd *h)
{
    while (!signals_caught()) {
        struct pollfd f = {.fd = signals_wake_fd(), .events = POLLIN};
        (void)poll(&f, f.fd >= 0 ? 1 : 0, SWEEP_MS);
        httpd_sweep(h);
    }
    signals_wake_drain();
}

// What runs is finished, what waits too if there is time.
static void drain(struct work *w, struct server *s, struct httpd *h)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    struct queue_load load = queue_load_of(s->queue);
    atomic_store(&s->closing, true);
    console_say(w->con, "stopping: %zu answers to finish", load.running + load.waiting);
    httpd_quiesce(h);
    int64_t until = clock_now_ns() + (int64_t)(s->s->grace * 1e9);
    do {
        int64_t left = until - clock_now_ns();
        queue_drain(s->queue,
                    left < (int64_t)SWEEP_MS * 1000000 ? (int)(left / 1000000) : SWEEP_MS);
        load = queue_load_of(s->queue);
        httpd_sweep(h);
    } while (load.running + load.waiting > 0 && clock_now_ns() < until);
    queue_stop(s->queue);
    until = clock_now_ns() + (int64_t)REPLY_S * 1000000000;
    while (httpd_active(h) > 0 && clock_now_ns() < until) { // the ends of replies
        httpd_sweep(h);
        (void)nanosleep(&pause, NULL);
    }
}

// --ctx may ask for more than the model has, which only a session knows.
static int check_positions(struct work *w, const struct server *s)
{
    struct iv_session_options o = iv_session_options_default();
    iv_session *session;
    o.n_ctx = server_positions(s);
    int rc = iv_session_open(s->engine, NULL, &o, &session, &w->error);
    iv_session_close(session);
    return rc;
}

static int load(struct work *w, struct server *s, struct httpd *h)
{
    int rc = work_open(w, false);
    if (rc != IV_OK)
        return rc;
    s->engine = w->engine;
    rc = check_positions(w, s);
    if (rc != IV_OK)
        return rc;
    atomic_store(&s->ready, true);
    console_say(w->con, "ready: %s with %s", httpd_address(h), iv_engine_info(w->engine)->name);
    return IV_OK;
}

static int serve(struct work *w, struct server *s)
{
    struct httpd *h = NULL;
    int rc = check(w, s);
    if (rc == IV_OK)
        rc = make(w, s);
    if (rc == IV_OK)
        rc = httpd_open(s, &h, &w->error);
    if (rc == IV_OK) {
        console_say(w->con, "listening: %s", httpd_address(h));
        rc = load(w, s, h);
    }
    if (rc == IV_OK) {
        wait_for_signal(h);
        drain(w, s, h);
    }
    if (s->queue)
        queue_stop(s->queue);
    httpd_close(h);
    unmake(s);
    return rc;
}

int serve_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct work w = {.verb = verb, .s = s, .con = con, .lasting = true, .later = true};
    struct server server = {.s = s, .con = con, .files = {.fd = -1}};
    (void)signals_wake_fd(); // before any other thread
    int rc = serve(&w, &server);
    int exit_code = rc == IV_OK ? 128 + signals_caught() : work_fail(&w, rc);
    work_close(&w);
    return exit_code;
}

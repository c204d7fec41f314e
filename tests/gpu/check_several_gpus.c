// SPDX-License-Identifier: MIT
// Two engines on two devices in one process: each answers, to the bit of the last logits, as it does alone, when they are
// asked in turns, one inside a callback of the other, from two threads at once, and when a conversation is saved and
// read behind the other's back; a third device is refused by name. Where it is emulated, two devices are asked for, and
// the emulator is seen to refuse what is of another device than the current one.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device_matrix.h"
#include "ivchat.h"

static const char tiny[] = TEST_ROOT "/fixtures/tiny-model";
static const char *const names[] = {"cuda:0", "cuda:1"};

enum { N_DEVICE = 2, N_TURN = 2, MOST = 6, SIDE = 224, PIXELS = 3 * SIDE * SIDE, ROUNDS = 3 };

struct said {
    int32_t ids[MOST];
    size_t n;
    uint64_t hash;
};

struct talk {
    iv_engine *engine;
    iv_media *media;
    iv_session *session;
    struct said said[N_TURN];
};

static void must(int rc, const struct iv_error *e, const char *what)
{
    if (rc == IV_OK)
        return;
    report(false, "%s: %s", what, e->message);
    exit(report_end());
}

static iv_engine *open_engine(const char *device)
{
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error e;
    iv_engine *g = NULL;
    o.model = tiny;
    o.device = device;
    o.n_threads = 1;
    o.cache_mib = 0;
    must(iv_engine_open(&o, &g, &e), &e, "opening");
    return g;
}

static void talk_begin(struct talk *t, iv_engine *g)
{
    static float px[PIXELS];
    struct iv_session_options so = iv_session_options_default();
    struct iv_error e;
    for (size_t i = 0; i < PIXELS; i++)
        px[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
    *t = (struct talk){.engine = g};
    must(iv_media_from_pixels(g, px, 1, 1, false, &t->media, &e), &e, "pixels");
    must(iv_session_open(g, t->media, &so, &t->session, &e), &e, "a session");
}

static void talk_end(struct talk *t)
{
    iv_session_close(t->session);
    iv_media_close(t->media);
    t->session = NULL;
    t->media = NULL;
}

typedef void token_fn(void *user, int32_t id, const float *logits, size_t n);

static void talk_ask(struct talk *t, int turn, token_fn *token, void *user)
{
    static const char *const question[N_TURN] = {"What happens?", "And then?"};
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    struct said *s = &t->said[turn];
    o.max_new_tokens = MOST - 2 * turn;
    o.ignore_eos = true;
    o.token = token;
    o.user = user;
    must(iv_session_ask(t->session, question[turn], &o, &a, &e), &e, "asking");
    s->n = a.n_token;
    s->hash = a.logits_hash;
    memcpy(s->ids, a.token_ids, a.n_token * sizeof *s->ids);
    iv_answer_free(&a);
}

static bool same(const struct talk *a, const struct talk *b)
{
    return memcmp(a->said, b->said, sizeof a->said) == 0;
}

static void *talk_whole(void *ctx)
{
    struct talk *t = ctx;
    for (int turn = 0; turn < N_TURN; turn++)
        talk_ask(t, turn, NULL, NULL);
    return NULL;
}

static struct talk alone(const char *device)
{
    struct talk t;
    iv_engine *g = open_engine(device);
    talk_begin(&t, g);
    talk_whole(&t);
    talk_end(&t);
    iv_engine_close(g);
    return t;
}

// ---- the ways to ask

static void in_turns(iv_engine *const g[N_DEVICE], struct talk t[N_DEVICE])
{
    for (int d = 0; d < N_DEVICE; d++)
        talk_begin(&t[d], g[d]);
    for (int turn = 0; turn < N_TURN; turn++)
        for (int d = 0; d < N_DEVICE; d++)
            talk_ask(&t[d], turn, NULL, NULL);
}

struct inner {
    struct talk *talk;
    int n;
};

static void ask_inner(void *user, int32_t id, const float *logits, size_t n)
{
    struct inner *in = user;
    (void)id, (void)logits, (void)n;
    if (in->n < N_TURN)
        talk_ask(in->talk, in->n++, NULL, NULL);
}

// The second engine answers inside a callback of the first.
static void nested(iv_engine *const g[N_DEVICE], struct talk t[N_DEVICE])
{
    struct inner in = {&t[1], 0};
    for (int d = 0; d < N_DEVICE; d++)
        talk_begin(&t[d], g[d]);
    for (int turn = 0; turn < N_TURN; turn++)
        talk_ask(&t[0], turn, ask_inner, &in);
}

static void at_once(iv_engine *const g[N_DEVICE], struct talk t[N_DEVICE])
{
    pthread_t thread[N_DEVICE];
    for (int d = 0; d < N_DEVICE; d++) { // made and closed here, used in other threads
        talk_begin(&t[d], g[d]);
        if (pthread_create(&thread[d], NULL, talk_whole, &t[d]) != 0)
            exit(report_end() | 1);
    }
    for (int d = 0; d < N_DEVICE; d++)
        pthread_join(thread[d], NULL);
}

// Between two turns each conversation goes through a file, while the other engine's device is the current one.
static void through_files(iv_engine *const g[N_DEVICE], struct talk t[N_DEVICE])
{
    struct iv_session_options so = iv_session_options_default();
    struct iv_error e;
    char path[N_DEVICE][64];
    for (int d = 0; d < N_DEVICE; d++) {
        talk_begin(&t[d], g[d]);
        talk_ask(&t[d], 0, NULL, NULL);
    }
    for (int d = 0; d < N_DEVICE; d++) {
        snprintf(path[d], sizeof path[d], "/tmp/ivchat-several-%d-%d", (int)getpid(), d);
        must(iv_session_save(t[d].session, path[d], &e), &e, "saving");
    }
    for (int d = 0; d < N_DEVICE; d++) {
        talk_end(&t[d]);
        must(iv_session_load(g[d], path[d], &so, &t[d].media, &t[d].session, &e), &e, "reading");
        unlink(path[d]);
    }
    for (int d = N_DEVICE; d-- > 0;)
        talk_ask(&t[d], 1, NULL, NULL);
}

static void compare(const char *what, iv_engine *const g[N_DEVICE],
                    const struct talk want[N_DEVICE],
                    void (*way)(iv_engine *const g[N_DEVICE], struct talk t[N_DEVICE]))
{
    struct talk t[N_DEVICE];
    way(g, t);
    for (int d = 0; d < N_DEVICE; d++) {
        report(same(&t[d], &want[d]), "%s: %s as alone", what, names[d]);
        talk_end(&t[d]);
    }
}

static void *close_engine(void *ctx)
{
    iv_engine_close(ctx);
    return NULL;
}

// ---- what is refused

static void check_absent(int n)
{
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error e = {0};
    iv_engine *g = NULL;
    char name[16], text[80];
    snprintf(name, sizeof name, "cuda:%d", n);
    snprintf(text, sizeof text, "device \"%s\": %s: this machine has %d CUDA devices", name, name,
             n);
    o.model = tiny;
    o.device = name;
    report(iv_engine_open(&o, &g, &e) == IV_ERR_USAGE && !g && strstr(e.message, text),
           "%s of %d is refused: %s", name, n, e.message);
}

static void touch_foreign(void)
{
    void *p = NULL;
    cuda_must(cudaSetDevice(1), "a device");
    cuda_must(cudaMalloc(&p, 64), "memory");
    cuda_must(cudaSetDevice(0), "a device");
    cuda_must(cudaMemset(p, 0, 64), "clearing");
}

// Of the emulator: what the checks above rely on.
static void check_refusals(void)
{
    void *p = NULL;
    cudaStream_t s;
    cudaEvent_t e;
    int status = 0;
    cuda_must(cudaSetDevice(1), "a device");
    cuda_must(cudaStreamCreate(&s), "a stream");
    cuda_must(cudaEventCreate(&e), "an event");
    cuda_must(cudaMalloc(&p, 64), "memory");
    report(cudaMemsetAsync(p, 0, 64, s) == cudaSuccess, "a stream of the current device works");
    cuda_must(cudaSetDevice(0), "a device");
    report(cudaMemsetAsync(p, 0, 64, s) == cudaErrorInvalidResourceHandle,
           "a stream of another device is refused");
    report(cudaEventRecord(e, NULL) == cudaErrorInvalidResourceHandle,
           "an event of another device is refused");
    report(cudaSetDevice(2) != cudaSuccess, "a third device cannot be current");
    (void)cudaGetLastError();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        touch_foreign();
        _exit(0);
    }
    waitpid(child, &status, 0);
    report(WIFEXITED(status) && WEXITSTATUS(status) == 3,
           "another device's memory cannot be touched");
    cuda_must(cudaEventDestroy(e), "an event");
    cuda_must(cudaStreamDestroy(s), "a stream");
    cuda_must(cudaFree(p), "memory");
}

static size_t free_bytes(int device)
{
    size_t left = 0, all = 0;
    cuda_must(cudaSetDevice(device), "a device");
    cuda_must(cudaMemGetInfo(&left, &all), "memory");
    return left;
}

int main(void)
{
    struct cudaDeviceProp p;
    int n = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    setenv("EMULATE_DEVICES", "2", 0);
    if (!device_present())
        return 77;
    cuda_must(cudaGetDeviceCount(&n), "devices");
    cuda_must(cudaGetDeviceProperties(&p, 0), "device properties");
    if (n < N_DEVICE) {
        printf("1..0 # SKIP one CUDA device\n");
        return 77;
    }
    bool emulated = !strcmp(p.name, "emulated");
    if (emulated)
        check_refusals();
    check_absent(n);
    size_t left[N_DEVICE] = {free_bytes(0), free_bytes(1)};
    struct talk want[N_DEVICE] = {alone(names[0]), alone(names[1])};
    report(want[0].said[0].n == MOST && want[0].said[1].n == MOST - 2, "an engine alone answers");
    iv_engine *g[N_DEVICE] = {open_engine(names[0]), open_engine(names[1])};
    report(strstr(iv_engine_info(g[0])->device, names[0]) &&
               strstr(iv_engine_info(g[1])->device, names[1]),
           "two engines on %s and %s", iv_engine_info(g[0])->device, iv_engine_info(g[1])->device);
    compare("in turns", g, want, in_turns);
    compare("inside a callback", g, want, nested);
    compare("through files", g, want, through_files);
    for (int i = 0; i < ROUNDS; i++)
        compare("at once", g, want, at_once);
    pthread_t thread; // which has never seen the second device
    report(pthread_create(&thread, NULL, close_engine, g[1]) == 0 && !pthread_join(thread, NULL),
           "%s is closed by another thread", names[1]);
    struct talk t;
    talk_begin(&t, g[0]);
    talk_whole(&t);
    report(same(&t, &want[0]), "%s goes on when the other is closed", names[0]);
    talk_end(&t);
    iv_engine_close(g[0]);
    if (emulated)
        report(free_bytes(0) == left[0] && free_bytes(1) == left[1], "all memory is given back");
    iv_engine *first = open_engine(NULL);
    report(strstr(iv_engine_info(first)->device, names[0]) != NULL,
           "by itself the first device is taken: %s", iv_engine_info(first)->device);
    iv_engine_close(first);
    return report_end();
}

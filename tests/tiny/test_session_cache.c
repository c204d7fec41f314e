// SPDX-License-Identifier: MIT
// The engine's cache: answers are those without it, whoever asks about what in which order; it keeps its
// limits; what is kept on disk survives and is checked.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine_fixture.h"
#include "tempdir.h"

// fewer where each access is watched: still more rows than the cache holds
#if defined(__SANITIZE_THREAD__)
enum { N_VIDEO = 42 };
#else
enum { N_VIDEO = 50 };
#endif
enum { N_TURN = 2, N_THREAD = 4, N_OPEN = 6, SIDE = 224 };

static const char *const questions[N_TURN] = {"What happens?", "And then?"};
static struct reply want[N_VIDEO][N_TURN]; // without caches, one after the other

// One clip of two frames.
static iv_media *video(const iv_engine *g, unsigned seed)
{
    size_t n = (size_t)2 * 3 * SIDE * SIDE;
    float *px = malloc(n * sizeof *px);
    uint32_t x = seed * 2654435761u + 17;
    iv_media *m;
    struct iv_error e;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        px[i] = (float)(x >> 8) / 8388608.0f - 1.0f;
    }
    if (iv_media_from_pixels(g, px, 1, 2, false, &m, &e) != IV_OK)
        fail_msg("%s", e.message);
    free(px);
    return m;
}

static void answers_without_caches(void)
{
    struct iv_engine_options o = engine_fixture_options();
    o.cache_mib = 0;
    iv_engine *g = engine_fixture_open(&o);
    for (unsigned v = 0; v < N_VIDEO; v++) {
        iv_media *m = video(g, v);
        iv_session *s = session_fixture(g, m, NULL);
        for (size_t t = 0; t < N_TURN; t++) {
            ask_fixture(s, questions[t], NULL, &want[v][t]);
            assert_true(want[v][t].cached == 0 && !want[v][t].media_cached);
        }
        iv_session_close(s);
        iv_media_close(m);
    }
    iv_engine_close(g);
    assert_true(memcmp(&want[0][0].hash, &want[1][0].hash, sizeof want[0][0].hash) != 0);
}

struct asker {
    const iv_engine *engine;
    iv_media **shared; // [N_VIDEO / 2]: of the even videos
    unsigned first;
    size_t n_wrong, n_media_hit, n_kv_hit, n_kv_gone;
    uint64_t most; // bytes seen in the cache
};

struct open_talk {
    iv_media *media; // own
    iv_session *session;
    unsigned v;
};

static bool same(const struct reply *a, const struct reply *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, sizeof a->ids) == 0 &&
           strcmp(a->text, b->text) == 0 && a->hash == b->hash;
}

// cmocka's asserts belong to the main thread: failures are counted.
static bool ask(struct asker *k, iv_session *s, unsigned v, size_t turn)
{
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_answer a;
    struct reply r = {0};
    o.max_new_tokens = FIXTURE_NEW;
    if (iv_session_ask(s, questions[turn], &o, &a, NULL) != IV_OK)
        return false;
    snprintf(r.text, sizeof r.text, "%s", a.text);
    memcpy(r.ids, a.token_ids, a.n_token * sizeof a.token_ids[0]);
    r.n = a.n_token;
    r.hash = a.logits_hash;
    if (turn == 0)
        k->n_media_hit += a.media_cached;
    else
        *(a.cached_tokens > 0 ? &k->n_kv_hit : &k->n_kv_gone) += 1;
    iv_answer_free(&a);
    return same(&r, &want[v][turn]);
}

static void end_talk(struct asker *k, struct open_talk *t)
{
    if (!t->session)
        return;
    if (!ask(k, t->session, t->v, 1))
        k->n_wrong++;
    iv_session_close(t->session);
    iv_media_close(t->media);
    *t = (struct open_talk){0};
}

// Begins a conversation about each video, N_OPEN of them at a time, and ends the oldest one.
static void *interleave(void *arg)
{
    struct asker *k = arg;
    struct iv_session_options o = iv_session_options_default();
    struct open_talk talk[N_OPEN] = {{0}};
    for (unsigned i = 0; i < N_VIDEO; i++) {
        struct open_talk *t = &talk[i % N_OPEN];
        unsigned v = (k->first + i * 7) % N_VIDEO;
        end_talk(k, t);
        t->v = v;
        t->media = v % 2 ? video(k->engine, v) : NULL;
        if (iv_session_open(k->engine, t->media ? t->media : k->shared[v / 2], &o, &t->session,
                            NULL) != IV_OK) {
            k->n_wrong++;
            break;
        }
        if (!ask(k, t->session, v, 0))
            k->n_wrong++;
        uint64_t bytes = cache_usage(k->engine->cache).bytes;
        k->most = bytes > k->most ? bytes : k->most;
    }
    for (size_t i = 0; i < N_OPEN; i++)
        end_talk(k, &talk[i]);
    return NULL;
}

static void fifty_videos_on_four_threads(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    o.cache_mib = 1; // some 20 KV or 40 videos' rows: things come and go
    iv_engine *g = engine_fixture_open(&o);
    iv_media *shared[N_VIDEO / 2];
    struct asker k[N_THREAD];
    pthread_t thread[N_THREAD];
    size_t n_media_hit = 0, n_kv_hit = 0, n_kv_gone = 0;
    answers_without_caches();
    for (unsigned v = 0; v < N_VIDEO; v += 2)
        shared[v / 2] = video(g, v);
    for (unsigned i = 0; i < N_THREAD; i++) {
        k[i] = (struct asker){.engine = g, .shared = shared, .first = 11 * i};
        assert_int_equal(pthread_create(&thread[i], NULL, interleave, &k[i]), 0);
    }
    for (size_t i = 0; i < N_THREAD; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(k[i].n_wrong, 0);
        assert_true(k[i].most > 0 && k[i].most <= 1 << 20);
        n_media_hit += k[i].n_media_hit;
        n_kv_hit += k[i].n_kv_hit;
        n_kv_gone += k[i].n_kv_gone;
    }
    print_message("# rows found %zu times of %d; KV found %zu times, gone %zu times\n", n_media_hit,
                  N_THREAD * N_VIDEO, n_kv_hit, n_kv_gone);
    assert_true(n_media_hit > 0 && n_kv_hit > 0 && n_kv_gone > 0);
    for (size_t i = 0; i < N_VIDEO / 2; i++)
        iv_media_close(shared[i]);
    assert_int_equal(cache_usage(g->cache).n_kv, 0); // closed sessions take theirs along
    iv_engine_close(g);
}

// A long answer was given room, of which the parked KV keeps, and is charged, little more than it holds.
static void room_of_a_long_answer_is_given_back(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    struct reply kept, anew;
    iv_engine *g = engine_fixture_open(&eo);
    size_t least, most;
    so.n_ctx = 2000;
    o.max_new_tokens = 1500;
    o.ignore_eos = true;
    iv_session *s = session_fixture(g, NULL, &so);
    if (iv_session_ask(s, "What happens in this place, and who is there?", &o, &a, &e) != IV_OK)
        fail_msg("%s", e.message);
    assert_true(a.n_token > 1400);
    struct cache_use u = cache_usage(g->cache);
    least = kv_bytes(&g->config.llm, g->kv_types, a.prompt_tokens);
    most = kv_bytes(&g->config.llm, g->kv_types, a.prompt_tokens + 512);
    assert_true(u.n_kv == 1 && u.bytes >= least && u.bytes <= most);
    iv_answer_free(&a);
    // a stopped question leaves the room that it was promised and not used
    o.max_new_tokens = 1 << 30;
    static const char *const any[] = {"a", "e", "i", "o", "u", " ", "n", "t", "s", "\n", ".", ","};
    o.stop = any;
    o.n_stop = sizeof any / sizeof *any;
    iv_session_reset(s);
    if (iv_session_ask(s, "What happens in this place, and who is there?", &o, &a, &e) != IV_OK)
        fail_msg("%s", e.message);
    u = cache_usage(g->cache);
    assert_true(u.n_kv == 1 && u.bytes <= most);
    iv_answer_free(&a);
    ask_fixture(s, "And then?", NULL, &kept);
    iv_session_drop_turn(s, NULL);
    assert_true(kept.cached > 0);
    struct iv_turn turn;
    assert_int_equal(iv_session_turn(s, 0, &turn), IV_OK);
    so.keep_cache = false;
    iv_session *t = session_fixture(g, NULL, &so);
    assert_int_equal(iv_session_add_turn(t, &turn, &e), IV_OK);
    ask_fixture(t, "And then?", NULL, &anew);
    assert_same_reply(&kept, &anew);
    iv_session_close(s);
    iv_session_close(t);
    iv_engine_close(g);
}

// ---- disk

static struct tempdir dir;

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

struct told {
    char line[400];
    size_t n;
};

static void on_log(void *user, enum iv_log_level level, const char *line)
{
    struct told *t = user;
    if (level != IV_LOG_WARN)
        return;
    t->n++;
    snprintf(t->line, sizeof t->line, "%s", line);
}

static char cache_path[300];

static iv_engine *open_with_dir(struct told *told)
{
    struct iv_engine_options o = engine_fixture_options();
    snprintf(cache_path, sizeof cache_path, "%s/rows", dir.path);
    o.cache_dir = cache_path;
    o.cache_dir_mib = 1;
    if (told) {
        o.callbacks.user = told;
        o.callbacks.log = on_log;
    }
    return engine_fixture_open(&o);
}

static void ask_about(const iv_engine *g, unsigned v, struct reply *r)
{
    iv_media *m = video(g, v);
    iv_session *s = session_fixture(g, m, NULL);
    ask_fixture(s, questions[0], NULL, r);
    iv_session_close(s);
    iv_media_close(m);
}

// Name of some file of the folder and how many bytes all have.
static size_t dir_bytes(char name[300], size_t *n)
{
    size_t sum = 0;
    struct dirent *x;
    struct stat st;
    DIR *d = opendir(cache_path);
    assert_non_null(d);
    *n = 0;
    while ((x = readdir(d))) {
        if (x->d_name[0] == '.')
            continue;
        assert_int_equal(fstatat(dirfd(d), x->d_name, &st, 0), 0);
        snprintf(name, 300, "%s", x->d_name);
        sum += (size_t)st.st_size;
        ++*n;
    }
    closedir(d);
    return sum;
}

static void flip(const char *name, long at)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", cache_path, name);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x10, f);
    assert_int_equal(fclose(f), 0);
}

static void disk_survives_and_is_checked(void **state)
{
    static const long where[] = {3, 9, 40, 1070, 1090, 1120, 1152, 9999};
    struct told told = {.n = 0};
    struct reply first, again;
    char name[300];
    size_t n;
    (void)state;
    iv_engine *g = open_with_dir(&told);
    ask_about(g, 1, &first);
    assert_false(first.media_cached);
    iv_engine_close(g);
    for (size_t i = 0; i < sizeof where / sizeof *where; i++) {
        g = open_with_dir(&told);
        ask_about(g, 1, &again);
        assert_true(again.media_cached);
        assert_same_reply(&first, &again);
        iv_engine_close(g);
        dir_bytes(name, &n);
        assert_int_equal(n, 1);
        flip(name, where[i]);
        assert_int_equal(told.n, i);
        g = open_with_dir(&told);
        ask_about(g, 1, &again);
        assert_false(again.media_cached);
        assert_same_reply(&first, &again);
        assert_int_equal(told.n, i + 1);
        assert_non_null(strstr(told.line, name));
        iv_engine_close(g);
    }
}

static void disk_keeps_its_limit(void **state)
{
    struct reply r;
    char name[300];
    size_t n;
    (void)state;
    iv_engine *g = open_with_dir(NULL);
    for (unsigned v = 0; v < 45; v++) // 26 KB each
        ask_about(g, v, &r);
    iv_engine_close(g);
    size_t bytes = dir_bytes(name, &n);
    assert_true(bytes <= 1 << 20 && bytes > 900 << 10);
    g = open_with_dir(NULL);
    ask_about(g, 44, &r);
    assert_true(r.media_cached);
    ask_about(g, 0, &r);
    assert_false(r.media_cached); // the oldest went
    iv_engine_close(g);
}

static void folders_that_cannot_be(void **state)
{
    struct iv_engine_options o = engine_fixture_options();
    struct iv_error e;
    iv_engine *g;
    (void)state;
    o.cache_dir = tempdir_write_text(&dir, "file", "x");
    assert_int_equal(iv_engine_open(&o, &g, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "not a folder"));
    o.cache_dir = "/nowhere at all/x";
    assert_int_equal(iv_engine_open(&o, &g, &e), IV_ERR_USAGE);
    o.cache_dir = NULL;
    o.cache_mib = UINT64_MAX;
    assert_int_equal(iv_engine_open(&o, &g, &e), IV_ERR_USAGE);
}

static void touch_old(const char *name)
{
    char path[700];
    const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    snprintf(path, sizeof path, "%s/%s", cache_path, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
}

static bool there(const char *name)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", cache_path, name);
    return access(path, F_OK) == 0;
}

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// What dead writers left goes; what is not ours or may still be written stays.
static void left_over_files_go(void **state)
{
    (void)state;
    struct reply r;
    char young[700];
    iv_engine *g = open_with_dir(NULL);
    touch_old(KEY ".ivrows.77.7f00.tmp");
    touch_old(KEY ".ivrows.mine");
    touch_old("notes.tmp");
    snprintf(young, sizeof young, "%s/%s", cache_path, KEY ".ivrows.78.7f00.tmp");
    assert_int_equal(fclose(fopen(young, "wb")), 0);
    ask_about(g, 1, &r);
    assert_false(there(KEY ".ivrows.77.7f00.tmp"));
    assert_true(there(KEY ".ivrows.mine") && there("notes.tmp"));
    assert_int_equal(access(young, F_OK), 0);
    iv_engine_close(g);
}

// Without a descriptor for it a good file is not read, and stays.
static void unreadable_is_not_damaged(void **state)
{
    (void)state;
    struct told told = {.n = 0};
    struct reply first, again;
    struct rlimit before, none;
    char name[300], why[400];
    size_t n;
    iv_engine *g = open_with_dir(NULL);
    ask_about(g, 1, &first);
    iv_engine_close(g);
    g = open_with_dir(&told);
    iv_media *m = video(g, 1);
    iv_session *s = session_fixture(g, m, NULL);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    ask_fixture(s, questions[0], NULL, &again);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    snprintf(why, sizeof why, "%s", told.line);
    iv_session_close(s);
    iv_media_close(m);
    assert_true(told.n >= 1 && strstr(why, "Too many open files") && !strstr(why, "removed"));
    assert_same_reply(&first, &again);
    iv_engine_close(g);
    dir_bytes(name, &n);
    assert_int_equal(n, 1);
    g = open_with_dir(&told);
    ask_about(g, 1, &again);
    assert_true(again.media_cached);
    iv_engine_close(g);
}

// ---- the same by several at once

enum { N_SAME = 4 };
struct crowd {
    const iv_engine *engine;
    atomic_size_t n_encode; // that began
    atomic_bool stop_first;
};
struct one_of {
    struct crowd *crowd;
    pthread_t thread;
    bool first; // began to encode before anyone else
    int rc;
    uint64_t hash;
};

static void count_encoding(void *user, const char *name, uint64_t done, uint64_t total)
{
    struct one_of *o = user;
    (void)total;
    if (strcmp(name, "vision") != 0 || done > 1 || o->first)
        return;
    o->first = true;
    atomic_fetch_add(&o->crowd->n_encode, 1);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); // the others come meanwhile
}

static bool stop_the_first(void *user)
{
    struct one_of *o = user;
    return o->first && atomic_load(&o->crowd->stop_first) && atomic_load(&o->crowd->n_encode) == 1;
}

static void *encode_same(void *arg)
{
    struct one_of *o = arg;
    const iv_engine *g = o->crowd->engine;
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask_o = iv_ask_options_default();
    struct iv_answer a;
    iv_media *m = video(g, 7);
    iv_session *s;
    so.callbacks =
        (struct iv_callbacks){.user = o, .progress = count_encoding, .abort = stop_the_first};
    ask_o.max_new_tokens = FIXTURE_NEW;
    o->rc = iv_session_open(g, m, &so, &s, NULL);
    if (o->rc == IV_OK)
        o->rc = iv_session_ask(s, questions[0], &ask_o, &a, NULL);
    if (o->rc == IV_OK) {
        o->hash = a.logits_hash;
        iv_answer_free(&a);
    }
    iv_session_close(s);
    iv_media_close(m);
    return NULL;
}

static void ask_together(uint64_t cache_mib, bool stop_first, size_t n_encode)
{
    struct iv_engine_options eo = engine_fixture_options();
    eo.cache_mib = cache_mib;
    iv_engine *g = engine_fixture_open(&eo);
    struct crowd c = {.engine = g};
    struct one_of one[N_SAME];
    size_t n_stopped = 0;
    uint64_t hash = 0;
    atomic_store(&c.stop_first, stop_first);
    for (size_t i = 0; i < N_SAME; i++) {
        one[i] = (struct one_of){.crowd = &c};
        assert_int_equal(pthread_create(&one[i].thread, NULL, encode_same, &one[i]), 0);
    }
    for (size_t i = 0; i < N_SAME; i++) {
        pthread_join(one[i].thread, NULL);
        n_stopped += one[i].rc == IV_ERR_ABORT;
        assert_true(one[i].rc == IV_OK || one[i].rc == IV_ERR_ABORT);
        if (one[i].rc == IV_OK) {
            assert_true(hash == 0 || hash == one[i].hash);
            hash = one[i].hash;
        }
    }
    assert_int_equal(n_stopped, stop_first);
    assert_int_equal(atomic_load(&c.n_encode), n_encode);
    iv_engine_close(g);
}

static void equal_media_is_encoded_once(void **state)
{
    (void)state;
    ask_together(64, false, 1);
    ask_together(64, true, 2); // the first one stops, another takes over
    ask_together(0, false, N_SAME);
}

// ---- files that are written to

// Puts the file's first byte there again, once, when something is decoded.
struct rewriting {
    const char *path;
    size_t n;
};

static void rewrite(void *user, const char *name, uint64_t done, uint64_t total)
{
    struct rewriting *w = user;
    (void)done, (void)total;
    if (w->n++ > 0 || strcmp(name, "decode") != 0)
        return;
    nanosleep(&(struct timespec){.tv_nsec = 20000000},
              NULL); // past a tick of the file system's clock
    FILE *f = fopen(w->path, "r+b");
    int c = f ? fgetc(f) : EOF;
    if (f) {
        rewind(f);
        fputc(c, f);
        fclose(f);
    }
}

static void copy_fixture(const char *name, char *path, size_t cap)
{
    char from[512];
    char *bytes;
    size_t n;
    struct err e;
    snprintf(from, sizeof from, "%s/fixtures/media/%s", TEST_ROOT, name);
    if (file_read(from, 1 << 24, ERR_FAIL, &bytes, &n, &e) != 0)
        fail_msg("%s", e.msg);
    snprintf(path, cap, "%s", tempdir_write(&dir, name, bytes, n));
    mem_free(bytes);
}

static void expect_changed(int rc, const struct iv_error *e)
{
    assert_int_equal(rc, IV_ERR_MEDIA);
    if (!strstr(e->message, "changed while it was read"))
        fail_msg("%s", e->message);
}

// Rows of the new bytes must not lie under the old ones' key.
static void a_file_written_meanwhile(void **state)
{
    (void)state;
    char path[512];
    struct iv_media_options o = iv_media_options_default();
    struct rewriting w = {.path = path};
    struct iv_error e;
    const char *image = path;
    char name[300];
    iv_media *m;
    size_t n;
    iv_engine *g = open_with_dir(NULL);
    copy_fixture("bframes.mp4", path, sizeof path);
    o.n_frame = 2;
    o.callbacks = (struct iv_callbacks){.user = &w, .progress = rewrite};
    expect_changed(iv_media_open_video(g, path, &o, &m, &e), &e);
    w.n = 0;
    copy_fixture("photo.jpg", path, sizeof path);
    expect_changed(iv_media_open_images(g, &image, 1, &o, &m, &e), &e);
    // segments are decoded when they are encoded
    copy_fixture("bframes.mp4", path, sizeof path);
    o.segment_s = 2;
    w.n = 1;
    assert_int_equal(iv_media_open_video(g, path, &o, &m, &e), IV_OK);
    w.n = 0;
    expect_changed(iv_media_encode(m, NULL, &e), &e);
    iv_media_close(m);
    assert_int_equal(cache_usage(g->cache).n_rows, 0);
    assert_int_equal(dir_bytes(name, &n), 0);
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_videos_on_four_threads),
        cmocka_unit_test(room_of_a_long_answer_is_given_back),
        cmocka_unit_test_setup_teardown(disk_survives_and_is_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(disk_keeps_its_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(folders_that_cannot_be, setup, teardown),
        cmocka_unit_test_setup_teardown(left_over_files_go, setup, teardown),
        cmocka_unit_test_setup_teardown(unreadable_is_not_damaged, setup, teardown),
        cmocka_unit_test(equal_media_is_encoded_once),
        cmocka_unit_test_setup_teardown(a_file_written_meanwhile, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

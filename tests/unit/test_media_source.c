// SPDX-License-Identifier: MIT
// Where bytes may come from: files, FIFOs, standard input, memory; and what bounds them.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "media/source.h"
#include "media/video.h"
#include "media_fixture.h"
#include "tempdir.h"

static struct tempdir dir;

static int set_up(void **state)
{
    (void)state;
    tempdir_make(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

static struct source_options options(void)
{
    return (struct source_options){
        .max_bytes = 1 << 20, .max_stored = 1 << 20, .tmp_dir = dir.path};
}

static void refused(const char *path, const struct source_options *o, int code, const char *text)
{
    struct source s;
    struct err e = {0};
    int before = dup(0);
    assert_int_equal(source_open(&s, path, o, &e), code);
    if (!strstr(e.msg, text))
        fail_msg("%s", e.msg);
    int after = dup(0);
    assert_int_equal(before, after - 1); // no descriptor is left open
    close(before);
    close(after);
}

static void test_refused(void **state)
{
    struct source_options o = options();
    char name[512];
    (void)state;
    refused(dir.path, &o, ERR_MEDIA, "a directory");
    refused("/dev/zero", &o, ERR_MEDIA, "a character device");
    refused("/dev/null", &o, ERR_MEDIA, "a character device");
    refused("/no/such/file.mp4", &o, ERR_MEDIA, "/no/such/file.mp4: No such file");
    refused("", &o, ERR_MEDIA, "No such file");
    refused(tempdir_write(&dir, "empty", "", 0), &o, ERR_MEDIA, "empty");
    o.max_bytes = 9;
    refused(tempdir_write(&dir, "ten", "0123456789", 10), &o, ERR_LIMIT,
            "10 bytes, at most 9 are accepted");
    snprintf(name, sizeof name, "%s/loop", dir.path);
    assert_int_equal(symlink(name, name), 0);
    refused(name, &o, ERR_MEDIA, "Too many levels of symbolic links");
}

static void check_bytes(const struct source *s, const char *want)
{
    char got[64];
    size_t n = strlen(want);
    assert_int_equal(s->size, n);
    for (size_t at = 0; at <= n; at++) {
        assert_int_equal(source_read(s, at, got, sizeof got), n - at);
        assert_memory_equal(got, want + at, n - at);
    }
    assert_int_equal(source_read(s, UINT64_MAX, got, 1), 0);
}

static void test_regular(void **state)
{
    struct source_options o = options();
    struct source s;
    char sha256[SHA256_TEXT];
    (void)state;
    const char *path = tempdir_write(&dir, "grow", "abc", 3);
    assert_int_equal(source_open(&s, path, &o, NULL), 0);
    assert_int_equal(source_unchanged(&s, "grow", NULL), 0);
    FILE *f = fopen(tempdir_path(&dir, "grow"), "ab");
    assert_non_null(f);
    assert_int_equal(fwrite("def", 1, 3, f), 3);
    assert_int_equal(fclose(f), 0);
    // the size is that of opening
    check_bytes(&s, "abc");
    assert_int_equal(source_sha256(&s, "grow", NULL, sha256, NULL), 0);
    struct err changed = {0};
    assert_int_equal(source_unchanged(&s, "grow", &changed), ERR_MEDIA);
    assert_string_equal(changed.msg, "grow: changed while it was read (3 bytes, now 6)");
    assert_string_equal(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(truncate(tempdir_path(&dir, "grow"), 1), 0); // a file that shrinks ends early
    struct err e = {0};
    assert_int_equal(source_sha256(&s, "grow", NULL, sha256, &e), ERR_MEDIA);
    assert_string_equal(e.msg, "grow: ends early at byte 1");
    assert_string_equal(sha256, "");
    source_close(&s);
}

static void test_memory(void **state)
{
    struct source s;
    (void)state;
    source_open_memory(&s, "hello", 5);
    check_bytes(&s, "hello");
    assert_int_equal(source_unchanged(&s, "hello", NULL), 0);
    source_close(&s);
}

// Runs source_open on `path` while a child writes; for "-" the pipe becomes standard input.
static int through_pipe(const char *path, const void *bytes, size_t n, size_t times,
                        const struct source_options *o, struct source *s, struct err *e)
{
    int ends[2], saved = -1;
    bool is_stdin = strcmp(path, "-") == 0;
    if (is_stdin)
        assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (is_stdin)
            close(ends[0]);
        int fd = is_stdin ? ends[1] : open(path, O_WRONLY);
        while (times--) {
            for (size_t at = 0; at < n;) { // in small pieces
                ssize_t k = write(fd, (const char *)bytes + at, n - at < 1000 ? n - at : 1000);
                if (k < 0)
                    _exit(0);
                at += (size_t)k;
            }
        }
        _exit(0);
    }
    if (is_stdin) {
        close(ends[1]);
        saved = dup(0);
        assert_int_equal(dup2(ends[0], 0), 0);
        close(ends[0]);
    }
    int rc = source_open(s, path, o, e);
    if (is_stdin) {
        assert_int_equal(dup2(saved, 0), 0);
        close(saved);
    }
    waitpid(child, NULL, 0);
    return rc;
}

static void see_read(void *user, const char *stage, size_t done, size_t total)
{
    assert_string_equal(stage, "read");
    assert_int_equal(total, 0);
    *(size_t *)user = done;
}

static void test_pipes(void **state)
{
    struct source_options o = options();
    size_t n_read = 0;
    const struct hooks hooks = {.user = &n_read, .progress = see_read};
    o.hooks = &hooks;
    char fifo[512];
    (void)state;
    snprintf(fifo, sizeof fifo, "%s/fifo", dir.path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    for (int i = 0; i < 2; i++) {
        struct source s;
        struct err e = {0};
        assert_int_equal(through_pipe(i ? fifo : "-", "hello world", 11, 1, &o, &s, &e), 0);
        check_bytes(&s, "hello world");
        assert_int_equal(n_read, 11);
        source_close(&s);
        assert_int_equal(through_pipe(i ? fifo : "-", "", 0, 1, &o, &s, &e), ERR_MEDIA);
        assert_non_null(strstr(e.msg, i ? "fifo: empty" : "standard input: empty"));
        assert_int_equal(through_pipe(i ? fifo : "-", "0123456789", 10, 1000000, &o, &s, &e),
                         ERR_LIMIT); // endless
        assert_non_null(strstr(e.msg, "more than 1048576 bytes"));
    }
    tempdir_delete(&dir, "fifo");
    o.tmp_dir = "/no/such/folder";
    struct source s;
    struct err e = {0};
    assert_int_equal(through_pipe("-", "hello", 5, 1, &o, &s, &e), ERR_FAIL);
    assert_non_null(strstr(e.msg, "/no/such/folder: cannot make a temporary file"));
}

// Standard input may be a file that was read in part.
static void test_redirected(void **state)
{
    struct source_options o = options();
    struct source s;
    int saved = dup(0), fd = open(tempdir_write(&dir, "input", "skip:payload", 12), O_RDONLY);
    (void)state;
    assert_true(saved >= 0 && fd >= 0);
    assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
    assert_int_equal(dup2(fd, 0), 0);
    int rc = source_open(&s, "-", &o, NULL);
    assert_int_equal(dup2(saved, 0), 0);
    close(fd);
    close(saved);
    assert_int_equal(rc, 0);
    check_bytes(&s, "payload");
    source_close(&s);
}

static bool third_time(void *user)
{
    int *n = user;
    return ++*n >= 3;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Nobody writes: the time limit and the abort hook end the wait.
static void test_silent_pipe(void **state)
{
    struct source_options o = options();
    struct source s;
    struct err e = {0};
    int asked = 0;
    const struct hooks hooks = {.user = &asked, .abort = third_time};
    char fifo[512];
    (void)state;
    snprintf(fifo, sizeof fifo, "%s/silent", dir.path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    double before = seconds();
    o.deadline = deadline_in(0.2);
    assert_int_equal(source_open(&s, fifo, &o, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "silent: not done after 0.2 s"));
    o.deadline = deadline_in(0);
    o.hooks = &hooks;
    assert_int_equal(source_open(&s, fifo, &o, &e), ERR_ABORT);
    o.hooks = NULL;
    o.writer_s = 0.2;
    assert_int_equal(source_open(&s, fifo, &o, &e), ERR_MEDIA);
    assert_non_null(strstr(e.msg, "silent: a FIFO that no program opened for writing in 0.2 s"));
    // a writer that is slow is none that is missing
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct timespec nap = {.tv_nsec = 500000000};
        int w = open(fifo, O_WRONLY);
        nanosleep(&nap, NULL);
        _exit(write(w, "late", 4) == 4 ? 0 : 1);
    }
    assert_int_equal(source_open(&s, fifo, &o, &e), 0);
    check_bytes(&s, "late");
    source_close(&s);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(seconds() - before < 20);
    tempdir_delete(&dir, "silent");
}

// A y4m stream and an MP4 whose header stands at its end, both through standard input.
static void test_video_on_stdin(void **state)
{
    static const char *const names[] = {"raw.y4m", "bframes.mp4"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int saved = dup(0), ends[2];
        char *bytes;
        size_t n;
        struct frames a, b;
        struct video *v;
        struct video_options o = {.tmp_dir = dir.path};
        assert_int_equal(file_read(media_fixture(names[i]), 1 << 20, ERR_FAIL, &bytes, &n, NULL),
                         0);
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            _exit(write(ends[1], bytes, n) != (ssize_t)n);
        }
        close(ends[1]);
        assert_int_equal(dup2(ends[0], 0), 0);
        close(ends[0]);
        int rc = video_open(&v, "-", &o, NULL);
        assert_int_equal(dup2(saved, 0), 0);
        close(saved);
        waitpid(child, NULL, 0);
        assert_int_equal(rc, 0);
        read_video(&a, v, NULL, 0);
        video_close(v);
        read_fixture(&b, names[i], NULL);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.rgb, b.rgb, a.n * a.frame_bytes);
        frames_free(&a);
        frames_free(&b);
        mem_free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_regular),
        cmocka_unit_test(test_memory),         cmocka_unit_test(test_pipes),
        cmocka_unit_test(test_redirected),     cmocka_unit_test(test_silent_pipe),
        cmocka_unit_test(test_video_on_stdin),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

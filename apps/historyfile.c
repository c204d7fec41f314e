// SPDX-License-Identifier: MIT
// The history file: one entry a line, oldest first.
//
//   in the entry   in the file
//   newline        \n
//   \              \\ (two of them)
//   others         as they are; control characters except tab make no entry
//
// An entry is added with one write under a lock, so that several programs can share the file. It is
// shortened when it is read: the newest entries go to a file beside it that takes its place.
//
// Easy to get wrong: who waited for the lock may hold a file that was replaced meanwhile, and looks
// again; only a regular file of the person's own is touched, never what a link in the person's folder points to
// or another user put there; what is read may be anything, so nothing but text comes out; who stopped in the
// middle of a line (a full disk) left no newline, and a lock may be held by a program that is stopped.

#include "historyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "heap.h"
#include "wellformed.h"

bool historyfile_path(char out[PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && state[0] == '/')
        n = snprintf(out, PATH_MAX, "%s/ivchat/history", state);
    else if (home && home[0] == '/')
        n = snprintf(out, PATH_MAX, "%s/.local/state/ivchat/history", home);
    return n > 0 && n < PATH_MAX;
}

static bool is_text(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)s[i];
        if ((b < 0x20 && b != '\n' && b != '\t') || b == 0x7f)
            return false;
        if (b == 0xc2 && i + 1 < n && (unsigned char)s[i + 1] < 0xa0) // U+0080..U+009F
            return false;
    }
    return n > 0 && wellformed_length(s, n) == n;
}

size_t historyfile_decode(const char *line, size_t n, char out[HISTORY_ENTRY_MAX])
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c = line[i];
        if (c == '\\') {
            if (++i == n || (line[i] != 'n' && line[i] != '\\'))
                return 0;
            c = line[i] == 'n' ? '\n' : '\\';
        }
        if (k == HISTORY_ENTRY_MAX)
            return 0;
        out[k++] = c;
    }
    return is_text(out, k) ? k : 0;
}

size_t historyfile_encode(const char *text, size_t n, char out[2 * HISTORY_ENTRY_MAX + 1])
{
    size_t k = 0;
    if (n > HISTORY_ENTRY_MAX || !is_text(text, n))
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\\' || text[i] == '\n')
            out[k++] = '\\';
        out[k++] = text[i] == '\n' ? 'n' : text[i];
    }
    out[k++] = '\n';
    return k;
}

// Folders above path that are missing; 0700.
static int make_folders(const char *path)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    return 0;
}

enum { LOCK_TRIES = 50, LOCK_PAUSE_NS = 20 * 1000 * 1000 }; // one second

static int lock(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -1;
        (void)nanosleep(&pause, NULL);
    }
    errno = EWOULDBLOCK;
    return -1;
}

// Whether fd may be used: a regular file, this user's, for nobody else's eyes. errno otherwise.
static bool is_own(int fd, struct stat *st)
{
    if (fstat(fd, st) != 0)
        return false;
    errno = S_ISREG(st->st_mode) ? EPERM : EINVAL;
    if (!S_ISREG(st->st_mode) || st->st_uid != geteuid())
        return false;
    return (st->st_mode & 077) == 0 || fchmod(fd, 0600) == 0;
}

// The file, locked, for reading and appending; -1 with errno.
static int open_locked(const char *path, int flags)
{
    for (int tries = 0; tries < 100; tries++) {
        struct stat st, named;
        int fd = open(path, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
        if (fd < 0)
            return -1;
        if (!is_own(fd, &st) || lock(fd) != 0) {
            int why = errno;
            (void)close(fd);
            errno = why;
            return -1;
        }
        if (lstat(path, &named) == 0 && named.st_dev == st.st_dev && named.st_ino == st.st_ino)
            return fd;
        (void)close(fd); // replaced while we waited
    }
    errno = EAGAIN;
    return -1;
}

// Whether what is appended would join a line that lacks its end.
static bool ends_openly(int fd)
{
    struct stat st;
    char last = '\n';
    return fstat(fd, &st) == 0 && st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 &&
           last != '\n';
}

static int write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t put = write(fd, data, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        data += put;
        n -= (size_t)put;
    }
    return 0;
}

int historyfile_add(const char *path, const char *text, size_t n)
{
    char *line = heap_calloc(2 * HISTORY_ENTRY_MAX + 2, 1); // a newline in front
    if (!line) {
        errno = ENOMEM;
        return -1;
    }
    int rc = 0;
    size_t len = historyfile_encode(text, n, line + 1);
    if (len > 0) {
        int fd = open_locked(path, O_CREAT);
        if (fd < 0 && errno == ENOENT && make_folders(path) == 0)
            fd = open_locked(path, O_CREAT);
        bool open_end = fd >= 0 && ends_openly(fd);
        line[0] = '\n';
        rc = fd < 0 ? -1 : write_all(fd, line + !open_end, len + open_end);
        int why = errno;
        if (fd >= 0)
            (void)close(fd);
        errno = why;
    }
    heap_free(line);
    return rc;
}

// The last HISTORY_FILE_MAX bytes of fd, from the begin of a line; *whole = that is all of it.
static char *read_tail(int fd, size_t *n, bool *whole)
{
    struct stat st;
    *n = 0;
    if (fstat(fd, &st) != 0)
        return NULL;
    size_t size = (size_t)st.st_size;
    size_t want = size < HISTORY_FILE_MAX ? size : HISTORY_FILE_MAX;
    off_t at = (off_t)(size - want);
    *whole = at == 0;
    char *data = heap_calloc(want + 1, 1);
    while (data && *n < want) {
        ssize_t got = pread(fd, data + *n, want - *n, at + (off_t)*n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        *n += (size_t)got;
    }
    char *newline = data && !*whole ? memchr(data, '\n', *n) : NULL;
    if (newline) {
        *n -= (size_t)(newline + 1 - data);
        memmove(data, newline + 1, *n);
    }
    return data;
}

// Where the last HISTORY_ENTRIES lines begin.
static size_t newest(const char *data, size_t n)
{
    size_t lines = 0, i = n;
    while (i > 0) {
        if (data[i - 1] == '\n' && ++lines > HISTORY_ENTRIES)
            break;
        i--;
    }
    return i;
}

static void shorten(const char *path, const char *data, size_t n)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside)
        return;
    (void)unlink(beside); // of a program that died here; we hold the lock
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    bool good = write_all(fd, data, n) == 0;
    good = close(fd) == 0 && good;
    if (!good || rename(beside, path) != 0)
        (void)unlink(beside);
}

int historyfile_load(const char *path, void (*entry)(void *user, const char *text, size_t n),
                     void *user)
{
    int fd = open_locked(path, 0);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    size_t n;
    bool whole = true;
    char *data = read_tail(fd, &n, &whole), *out = heap_calloc(HISTORY_ENTRY_MAX, 1);
    if (!data || !out) {
        heap_free(data);
        heap_free(out);
        (void)close(fd);
        errno = ENOMEM;
        return -1;
    }
    size_t begin = newest(data, n);
    if (!whole || begin > n / 2)
        shorten(path, data + begin, n - begin);
    (void)close(fd);
    for (size_t i = begin; i < n;) {
        char *newline = memchr(data + i, '\n', n - i);
        size_t len = newline ? (size_t)(newline - (data + i)) : n - i;
        size_t k = historyfile_decode(data + i, len, out);
        if (k > 0)
            entry(user, out, k);
        i += len + 1;
    }
    heap_free(data);
    heap_free(out);
    return 0;
}

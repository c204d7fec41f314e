// SPDX-License-Identifier: MIT
// Journal of arrived chunks.
// Easy to get wrong: the data file gets its full size before the journal exists, so that a journal
// without data of that size is recognised as none; a byte a chunk instead of a bit, since single bytes can
// be written by several threads without reading first.
#include "hub/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/filemap.h"
#include "base/mem.h"

static const char magic[8] = "IVPULL1\n";

size_t journal_chunks(uint64_t size)
{
    return (size_t)(size / JOURNAL_CHUNK + (size % JOURNAL_CHUNK != 0));
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++, v >>= 8)
        p[i] = (uint8_t)v;
}

bool journal_parse(const uint8_t *bytes, size_t n, uint64_t size, uint8_t *chunk)
{
    size_t n_chunk = journal_chunks(size);
    if (n < JOURNAL_HEAD || n - JOURNAL_HEAD != n_chunk || memcmp(bytes, magic, 8) != 0 ||
        get_u64(bytes + 8) != size || get_u64(bytes + 16) != JOURNAL_CHUNK)
        return false;
    for (size_t i = 0; i < n_chunk; i++) {
        if (bytes[JOURNAL_HEAD + i] > 1)
            return false;
    }
    if (n_chunk)
        memcpy(chunk, bytes + JOURNAL_HEAD, n_chunk);
    return true;
}

static bool take_over(const char *data_path, const char *journal_path, uint64_t size,
                      uint8_t *chunk)
{
    struct stat st;
    char *text = NULL;
    size_t n = 0;
    bool good = lstat(data_path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size &&
                file_read(journal_path, JOURNAL_HEAD + journal_chunks(size), ERR_FAIL, &text, &n,
                          NULL) == 0 &&
                journal_parse((const uint8_t *)text, n, size, chunk);
    mem_free(text);
    return good;
}

static int begin(const char *data_path, const char *journal_path, uint64_t size, size_t n_chunk,
                 int *data_fd, int *journal_fd, struct err *e)
{
    int rc = 0;
    size_t n = JOURNAL_HEAD + n_chunk;
    uint8_t *head = NULL;
    if ((unlink(journal_path) != 0 && errno != ENOENT) ||
        (*data_fd = open(data_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666)) <
            0 ||
        ftruncate(*data_fd, (off_t)size) != 0)
        return err_set(e, ERR_FAIL, "%s: %s", data_path, strerror(errno));
    if (n_chunk < 2)
        return 0;
    head = mem_calloc(n, 1);
    if (!head)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu bytes", journal_path, n);
    memcpy(head, magic, 8);
    put_u64(head + 8, size);
    put_u64(head + 16, JOURNAL_CHUNK);
    *journal_fd = open(journal_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (*journal_fd < 0 || write(*journal_fd, head, n) != (ssize_t)n)
        rc = err_set(e, ERR_FAIL, "%s: %s", journal_path, strerror(errno));
    mem_free(head);
    return rc;
}

int journal_open(const char *data_path, const char *journal_path, uint64_t size, uint8_t *chunk,
                 size_t *n_there, int *data_fd, int *journal_fd, struct err *e)
{
    size_t n_chunk = journal_chunks(size);
    *n_there = 0;
    *data_fd = *journal_fd = -1;
    if (n_chunk)
        memset(chunk, 0, n_chunk);
    if (n_chunk < 2 || !take_over(data_path, journal_path, size, chunk))
        return begin(data_path, journal_path, size, n_chunk, data_fd, journal_fd, e);
    *data_fd = open(data_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    *journal_fd = open(journal_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (*data_fd < 0 || *journal_fd < 0)
        return err_set(e, ERR_FAIL, "%s: %s", data_path, strerror(errno));
    for (size_t i = 0; i < n_chunk; i++)
        *n_there += chunk[i];
    return 0;
}

int journal_mark(int journal_fd, size_t i, struct err *e)
{
    static const uint8_t there = 1;
    if (journal_fd >= 0 && pwrite(journal_fd, &there, 1, (off_t)(JOURNAL_HEAD + i)) != 1)
        return err_set(e, ERR_FAIL, "journal of a download: %s", strerror(errno));
    return 0;
}

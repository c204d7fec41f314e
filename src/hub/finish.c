// SPDX-License-Identifier: MIT
// The checksum of a file, which follows the bytes as they arrive, and the file's last step.
//
//   git's own files   SHA-1 of "blob SIZE\0" and the bytes      large files   SHA-256 of the bytes
//
// Easy to get wrong: after a power failure the journal can name chunks whose bytes were lost, so a
// mismatch of a resumed file is a reason to load it once more from the start and only then an error; bytes
// reach the disk before the name does.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"
#include "hub/fetch_parts.h"
#include "hub/filesum.h"
#include "hub/hubcache.h"

uint64_t finish_ready(const struct fetch_file *f)
{
    uint64_t at = f->summed / JOURNAL_CHUNK;
    while (at < f->n_chunk && f->chunk[at] == CHUNK_THERE)
        at++;
    return at == f->n_chunk ? f->remote->size : at * JOURNAL_CHUNK;
}

void finish_close(struct fetch_file *f)
{
    sha256_drop(&f->sum);
    if (f->data_fd >= 0)
        close(f->data_fd);
    if (f->journal_fd >= 0)
        close(f->journal_fd);
    lock_release(f->lock_fd);
    f->data_fd = f->journal_fd = f->lock_fd = -1;
}

// All of the file once more.
static int begin_anew(struct fetch *p, struct fetch_file *f, struct err *e)
{
    close(f->data_fd);
    if (f->journal_fd >= 0)
        close(f->journal_fd);
    (void)unlink(f->place.journal); // makes journal_open begin
    fetch_say(p, "%s: what an earlier run left is damaged, loading it again", f->remote->path);
    pthread_mutex_lock(&p->lock);
    int rc = journal_open(f->place.data, f->place.journal, f->remote->size, f->chunk, &f->n_there,
                          &f->data_fd, &f->journal_fd, e);
    f->resumed = f->sum_begun = false;
    f->summed = 0;
    f->first_missing = 0;
    atomic_store(&f->arrived, 0);
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static int conclude(struct fetch *p, struct fetch_file *f, struct err *e)
{
    char sum[SHA256_TEXT];
    const char *want = filesum_wanted(f->remote);
    int rc;
    TRY(filesum_end(&f->sum, f->remote, sum, e));
    if (strcmp(sum, want) != 0) {
        if (f->resumed)
            return begin_anew(p, f, e);
        (void)unlink(f->place.data);
        (void)unlink(f->place.journal);
        TRY(err_set(e, ERR_NETWORK, "%s: the bytes received have %s %s, expected %s; discarded",
                    f->remote->path, filesum_kind(f->remote), sum, want));
    }
    if (fdatasync(f->data_fd) != 0)
        TRY(err_set(e, ERR_FAIL, "%s: %s", f->place.data, strerror(errno)));
    TRY(place_commit(&p->order->target, &f->place, f->etag, e));
    finish_close(f);
    pthread_mutex_lock(&p->lock);
    f->state = FETCH_DONE;
    p->n_done++;
    pthread_mutex_unlock(&p->lock);
fail:
    return rc;
}

int finish_sum(struct fetch_thread *t, struct fetch_file *f, struct err *e)
{
    struct fetch *p = t->fetch;
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    uint64_t end = min_size(finish_ready(f), f->summed + SUM_SLICE);
    pthread_mutex_unlock(&p->lock);
    if (!f->sum_begun) {
        f->sum_begun = true;
        TRY(filesum_begin(&f->sum, f->remote, e));
    }
    for (uint64_t at = f->summed; at < end;) {
        size_t want = min_size(SUM_PIECE, (size_t)(end - at));
        ssize_t n = pread(f->data_fd, t->piece, want, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            TRY(err_set(e, ERR_FAIL, "%s: cannot be read back: %s", f->place.data,
                        n < 0 ? strerror(errno) : "it is shorter than it was"));
        TRY(sha256_add(&f->sum, t->piece, (size_t)n, e));
        at += (uint64_t)n;
        if (atomic_load(&p->stop))
            TRY(err_set(e, ERR_ABORT, "download stopped"));
    }
    pthread_mutex_lock(&p->lock);
    f->summed = end;
    bool last =
        end == f->remote->size && f->n_stream == 0; // a slow stream may still write the same bytes
    pthread_mutex_unlock(&p->lock);
    if (last)
        rc = conclude(p, f, e);
fail:
    return rc;
}

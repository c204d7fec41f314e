// SPDX-License-Identifier: MIT
// Stage outputs as files, for comparison with a reference:
//
//   DIR/frame_indices.npy pixels.npy vit_block_<i>.npy vit.npy qformer.npy projected.npy
//       input_ids.npy logits.npy                                            first turn
//   DIR/turn2/...                                                           second turn, and so on
//
// A stage that a turn reuses (the video's features) is not computed again and has no file in that
// turn's folder. logits.npy is what the first token of the answer was chosen from.
//
// Easy to get wrong: the callback cannot fail, so the error waits here and the abort callback ends
// the call; a name is only used as a file name if it is made of [a-z0-9_].

#include "dump.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "npy_save.h"
#include "savefile.h"

static int make_folders(const char *dir, struct iv_error *e)
{
    char path[PATH_MAX];
    size_t n = strlen(dir);
    if (n == 0 || n + DUMP_NAME + 24 >= sizeof path) // room for turn<n>/<name>.npy
        return app_error(e, IV_ERR_USAGE, "--dump: the folder's name has %zu bytes", n);
    memcpy(path, dir, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        path[i] = 0;
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return app_error(e, IV_ERR_FAIL, "%s: %s", path, strerror(errno));
        path[i] = dir[i];
    }
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return app_error(e, IV_ERR_FAIL, "%s: not a directory", dir);
    return IV_OK;
}

int dump_open(struct dump *d, const char *dir, struct iv_error *e)
{
    *d = (struct dump){.dir = dir, .turn = 1};
    atomic_init(&d->failed, false);
    return dir ? make_folders(dir, e) : IV_OK;
}

void dump_turn(struct dump *d, unsigned turn)
{
    d->turn = turn;
}

void dump_stage(struct dump *d, const char *name, const char *dtype, const void *data,
                const size_t *dim, unsigned n_dim)
{
    char path[PATH_MAX];
    int rc = IV_OK;
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (!d->dir || atomic_load(&d->failed) || n == 0 || name[n] || n > DUMP_NAME)
        return;
    if (d->turn > 1) {
        (void)snprintf(path, sizeof path, "%s/turn%u", d->dir, d->turn);
        rc = make_folders(path, &d->error);
        if (rc == IV_OK)
            (void)snprintf(path, sizeof path, "%s/turn%u/%s.npy", d->dir, d->turn, name);
    } else {
        (void)snprintf(path, sizeof path, "%s/%s.npy", d->dir, name);
    }
    if (rc == IV_OK)
        rc = npy_save(path, dtype, data, dim, n_dim, false, &d->error);
    if (rc != IV_OK)
        atomic_store(&d->failed, true);
}

// SPDX-License-Identifier: MIT
// The hub's part of the public header.
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/status.h"
#include "hub/hub_pull.h"
#include "hub/inventory.h"
#include "hub/snapshot.h"

_Static_assert((int)IV_HUB_WAITING == FETCH_WAITING && (int)IV_HUB_BUSY == FETCH_BUSY &&
                   (int)IV_HUB_RUNNING == FETCH_RUNNING && (int)IV_HUB_DONE == FETCH_DONE,
               "public and internal states agree");

struct iv_hub_options iv_hub_options_default(void)
{
    return (struct iv_hub_options){.n_connection = 8, .retries = 6};
}

struct pull_user {
    const struct iv_hub_options *o;
    struct iv_hub_file *file; // grown to what the first report needs
    size_t cap;
};

static void forward_files(void *user, const struct fetch_view *view, size_t n)
{
    struct pull_user *u = user;
    if (n > u->cap) {
        struct iv_hub_file *more = mem_realloc(u->file, n, sizeof *more);
        if (!more)
            return; // a progress report less
        u->file = more;
        u->cap = n;
    }
    for (size_t i = 0; i < n; i++)
        u->file[i] = (struct iv_hub_file){view[i].path, view[i].size, view[i].done,
                                          (enum iv_hub_state)view[i].state};
    u->o->files(u->o->callbacks.user, u->file, n);
}

// Takes the result over; r keeps what it does not give.
static int hand_over(struct pull_result *r, bool dry_run, struct iv_hub_snapshot *out,
                     struct err *e)
{
    out->file = mem_calloc(max_size(r->n, 1), sizeof *out->file);
    if (!out->file)
        return err_set(e, ERR_LIMIT, "out of memory for a list of %zu files", r->n);
    for (size_t i = 0; i < r->n; i++) {
        struct pull_file *f = &r->file[i];
        bool here = f->had || !dry_run;
        out->file[i] = (struct iv_hub_file){f->path, f->size, here ? f->size : 0,
                                            here ? IV_HUB_DONE : IV_HUB_WAITING};
        f->path = NULL;
    }
    out->n_file = r->n;
    out->folder = r->folder;
    r->folder = NULL;
    memcpy(out->commit, r->commit, sizeof out->commit);
    out->bytes = r->bytes;
    out->missing = r->missing;
    out->fetched = r->fetched;
    return 0;
}

int iv_hub_pull(const char *name, const struct iv_hub_options *o, struct iv_hub_snapshot *out,
                struct iv_error *error)
{
    struct err e = {0};
    struct hooks hooks = callback_hooks(&o->callbacks);
    struct pull_user user = {.o = o};
    struct pull_result result = {0};
    struct pull_order order = {.name = name,
                               .local_dir = o->local_dir,
                               .choice = {o->include, o->exclude, o->n_include, o->n_exclude},
                               .n_connection = (unsigned)o->n_connection,
                               .retries = (unsigned)o->retries,
                               .dry_run = o->dry_run,
                               .hooks = &hooks,
                               .user = &user,
                               .progress = o->files ? forward_files : NULL};
    int rc;
    memset(out, 0, sizeof *out);
    if (o->n_connection < 1 || o->n_connection > 64 || o->retries < 0 || o->retries > 1000)
        TRY(err_set(&e, ERR_USAGE, "%d connections, %d retries: 1 to 64 and 0 to 1000 are possible",
                    o->n_connection, o->retries));
    TRY(hub_pull(&order, &result, &e));
    TRY(hand_over(&result, o->dry_run, out, &e));
fail:
    pull_free(&result);
    mem_free(user.file);
    return status_out(rc, &e, error);
}

void iv_hub_snapshot_free(struct iv_hub_snapshot *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_file; i++)
        mem_free((void *)(uintptr_t)s->file[i].path);
    mem_free(s->file);
    mem_free(s->folder);
    memset(s, 0, sizeof *s);
}

int iv_hub_find(const char *name, char **folder, struct iv_error *error)
{
    struct err e = {0};
    return status_out(snapshot_find(name, NULL, true, folder, &e), &e, error);
}

static int copy_repo(struct iv_hub_repo *out, struct inventory_repo *r, struct err *e)
{
    memcpy(out->id, r->id, sizeof r->id);
    out->bytes = r->bytes;
    out->unfinished = r->unfinished;
    out->revision = mem_calloc(max_size(r->n_revision, 1), sizeof *out->revision);
    if (!out->revision)
        return err_set(e, ERR_LIMIT, "out of memory for the list of the cache");
    for (; out->n_revision < r->n_revision; out->n_revision++) {
        const struct inventory_revision *from = &r->revision[out->n_revision];
        struct iv_hub_revision *to = &out->revision[out->n_revision];
        memcpy(to->commit, from->commit, sizeof to->commit);
        memcpy(to->refs, from->refs, sizeof to->refs);
        to->bytes = from->bytes;
        to->n_file = from->n_file;
        to->usable = from->usable;
    }
    out->folder = r->folder;
    r->folder = NULL;
    return 0;
}

int iv_hub_list(struct iv_hub_repo **repo, size_t *n, struct iv_error *error)
{
    struct err e = {0};
    struct inventory v;
    struct iv_hub_repo *list = NULL;
    size_t done = 0;
    int rc;
    *repo = NULL;
    *n = 0;
    TRY(inventory_read(NULL, &v, &e));
    list = mem_calloc(max_size(v.n, 1), sizeof *list);
    if (!list)
        TRY(err_set(&e, ERR_LIMIT, "out of memory for the list of the cache"));
    while (done < v.n) {
        done++;
        TRY(copy_repo(&list[done - 1], &v.repo[done - 1], &e));
    }
    *repo = list;
    *n = v.n;
fail:
    if (rc != 0)
        iv_hub_list_free(list, done);
    inventory_free(&v);
    return status_out(rc, &e, error);
}

void iv_hub_list_free(struct iv_hub_repo *repo, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mem_free(repo[i].folder);
        mem_free(repo[i].revision);
    }
    mem_free(repo);
}

int iv_hub_remove(const char *name, bool dry_run, uint64_t *freed, struct iv_error *error)
{
    struct err e = {0};
    return status_out(inventory_remove(name, NULL, dry_run, freed, &e), &e, error);
}

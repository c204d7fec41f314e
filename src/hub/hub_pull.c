// SPDX-License-Identifier: MIT
// The steps of a download.
//
//   revision -> commit -> list -> choice -> what is missing -> space -> bytes -> refs -> base model's config
//
// Easy to get wrong: refs/ is written last, so that a name goes on meaning the older, complete snapshot
// while a newer one arrives; the config of the base model is a courtesy (ivchat does without), so failing
// to get it is a warning, it is asked for once, and refs of that repository are not moved.
#include "hub/hub_pull.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "base/size.h"
#include "hub/http.h"
#include "hub/hubcache.h"
#include "hub/remote.h"
#include "hub/snapshot.h"

enum { CONFIG_MAX = 4 << 20 };

struct pull {
    const struct pull_order *order;
    struct repo_name name;
    struct hubenv env;
    struct remote remote;
    struct repo_info info;
    struct listing list;
    char *repo_folder;
    struct target target;
    const struct remote_file **wanted; // [n_wanted]
    size_t n_wanted;
    const struct remote_file **lacking; // [n_lacking]
    size_t n_lacking;
    uint64_t space; // bytes that will be written
};

static bool asked_to_stop(void *user)
{
    return hooks_abort(user);
}

static void say(void *user, const char *line)
{
    log_line(user, LOG_WARN, "%s", line);
}

static int open_remote(struct pull *p, struct err *e)
{
    const struct hooks *hooks = p->order->hooks;
    void *user = (void *)(uintptr_t)hooks;
    struct http_options options = {.endpoint = p->env.endpoint,
                                   .token = p->env.token,
                                   .ca_file = p->env.ca_file,
                                   .stall_s = p->env.stall_s,
                                   .user = user,
                                   .stop = asked_to_stop};
    p->remote = (struct remote){
        .env = &p->env, .name = &p->name, .retries = p->order->retries, .user = user, .say = say};
    return http_open(&options, &p->remote.http, e);
}

static int find_lacking(struct pull *p, struct pull_result *out, struct err *e)
{
    const struct choice *c = &p->order->choice;
    size_t n = max_size(p->list.n, 1);
    p->wanted = mem_calloc(n, sizeof *p->wanted);
    p->lacking = mem_calloc(n, sizeof *p->lacking);
    for (size_t i = 0; i < p->list.n && p->wanted; i++) {
        if (choice_wants(c, p->list.file[i].path))
            p->wanted[p->n_wanted++] = &p->list.file[i];
    }
    out->file = mem_calloc(max_size(p->n_wanted, 1), sizeof *out->file);
    if (!p->wanted || !p->lacking || !out->file)
        return err_set(e, ERR_LIMIT, "%s: out of memory for a list of %zu files", p->name.id, n);
    if (p->n_wanted == 0)
        return err_set(e, ERR_USAGE, "%s: none of its %zu files %s", p->name.id, p->list.n,
                       c->n_include || c->n_exclude ? "matches --include and --exclude"
                                                    : "is one that ivchat reads; see --include");
    for (size_t i = 0; i < p->n_wanted; i++) {
        const struct remote_file *f = p->wanted[i];
        struct pull_file *told = &out->file[i];
        told->path = mem_strndup(f->path, strlen(f->path));
        if (!told->path)
            return err_set(e, ERR_LIMIT, "%s: out of memory for its names", p->name.id);
        out->n = i + 1;
        told->size = f->size;
        bool done = place_has(&p->target, f), here = done || place_has_bytes(&p->target, f);
        told->had = here;
        out->bytes += f->size;
        if (!done)
            p->lacking[p->n_lacking++] = f;
        if (!here)
            out->missing += f->size;
        if (!here || (!done && p->order->local_dir))
            p->space += f->size;
    }
    return 0;
}

// What an earlier run left has its full length but occupies only what arrived.
static int check_space(const struct pull *p, struct err *e)
{
    const char *folder = p->order->local_dir ? p->order->local_dir : p->env.cache;
    struct statvfs v;
    int rc = path_make_folders(folder, true, e);
    if (rc != 0)
        return rc;
    if (statvfs(folder, &v) != 0)
        return err_set(e, ERR_FAIL, "%s: %s", folder, strerror(errno));
    uint64_t have = (uint64_t)v.f_bavail * v.f_frsize;
    for (size_t i = 0; i < p->n_lacking; i++) {
        const struct remote_file *f = p->lacking[i];
        struct place place;
        if (place_make(&p->target, f->path, *f->sha256 ? f->sha256 : f->oid, &place, NULL) == 0)
            have += path_disk_bytes(place.data);
        place_free(&place);
    }
    if (p->space > have)
        return err_set(e, ERR_FAIL, "%s: no space left: %.2f GB are needed, %.2f GB are free",
                       folder, 1e-9 * (double)p->space, 1e-9 * (double)have);
    return 0;
}

static int make_folder_name(struct pull *p, struct pull_result *out, struct err *e)
{
    if (p->order->local_dir)
        return path_make(&out->folder, e, "%s", p->order->local_dir);
    return path_make(&out->folder, e, "%s/snapshots/%s", p->repo_folder, out->commit);
}

static int ask(struct pull *p, struct pull_result *out, struct err *e)
{
    int rc;
    TRY(open_remote(p, e));
    TRY(remote_info(&p->remote, &p->info, e));
    memcpy(out->commit, p->info.commit, sizeof out->commit);
    p->target = (struct target){.cache = p->env.cache,
                                .repo_folder = p->repo_folder,
                                .commit = p->info.commit,
                                .local_dir = p->order->local_dir};
    TRY(remote_list(&p->remote, p->info.commit, &p->list, e));
    TRY(find_lacking(p, out, e));
    TRY(make_folder_name(p, out, e));
fail:
    return rc;
}

// What a removal by hand, or by another program, may have taken away while the rest arrived.
static int check_there(const struct pull *p, struct err *e)
{
    for (size_t i = 0; i < p->n_wanted; i++) {
        if (!place_has(&p->target, p->wanted[i]))
            return err_set(e, ERR_FAIL, "%s: %s was removed by another process meanwhile",
                           p->name.id, p->wanted[i]->path);
    }
    return 0;
}

static int load(struct pull *p, struct pull_result *out, struct err *e)
{
    const struct pull_order *o = p->order;
    struct fetch_order order = {.env = &p->env,
                                .name = &p->name,
                                .base_model = p->remote.base_model,
                                .target = p->target,
                                .file = p->lacking,
                                .n = p->n_lacking,
                                .n_connection = o->n_connection,
                                .retries = o->retries,
                                .hooks = o->hooks,
                                .user = o->user,
                                .progress = o->progress};
    char known[41];
    int rc, lock_fd = -1;
    bool names = !o->local_dir && !repo_is_commit(p->name.revision) &&
                 !(cache_read_ref(p->repo_folder, p->name.revision, known) &&
                   !strcmp(known, p->info.commit));
    TRY(check_space(p, e));
    if (!o->local_dir)
        cache_tag(p->env.cache);
    if (!o->local_dir && (p->n_lacking > 0 || names)) { // else the cache may be read-only
        TRY(cache_lock_repo(p->repo_folder, false, &lock_fd, e));
        if (lock_fd < 0)
            TRY(err_set(e, ERR_FAIL, "%s: another process is removing it now", p->name.id));
    }
    TRY(fetch_files(&order, &out->fetched, e));
    if (lock_fd >= 0)
        TRY(check_there(p, e));
    if (names)
        TRY(cache_write_ref(p->repo_folder, p->name.revision, p->info.commit, e));
fail:
    lock_release(lock_fd);
    return rc;
}

// Without network: the snapshot that is there, if it is complete.
static int stay_offline(struct pull *p, struct pull_result *out, struct err *e)
{
    struct err why = {0};
    if (!p->order->local_dir &&
        snapshot_find(p->order->name, p->env.cache, true, &out->folder, &why) == 0) {
        log_line(p->order->hooks, LOG_WARN, "HF_HUB_OFFLINE is set: not asked for anything newer");
        return 0;
    }
    return err_set(e, ERR_NETWORK,
                   "%s: HF_HUB_OFFLINE is set, and the cache %s has no complete copy", p->name.id,
                   p->env.cache);
}

static int pull_once(const struct pull_order *o, struct pull_result *out, struct err *e)
{
    struct pull p = {.order = o};
    int rc;
    TRY(repo_name_parse(o->name, &p.name, e));
    TRY(hubenv_read(o->endpoint, o->cache, &p.env, e));
    TRY(cache_repo_folder(p.env.cache, p.name.id, &p.repo_folder, e));
    if (p.env.offline) {
        rc = stay_offline(&p, out, e);
        goto fail;
    }
    TRY(ask(&p, out, e));
    if (!o->dry_run)
        TRY(load(&p, out, e));
fail:
    http_close(p.remote.http);
    listing_free(&p.list);
    mem_free(p.wanted);
    mem_free(p.lacking);
    mem_free(p.repo_folder);
    hubenv_free(&p.env);
    return rc;
}

// The commit that the cache's main of a repository means, "" if none; true when that snapshot has a config.
static bool has_config(const char *given_cache, const char *id, char commit[41])
{
    char *cache = NULL, *repo = NULL, *path = NULL;
    commit[0] = 0;
    bool has = hubenv_cache(given_cache, &cache, NULL) == 0 &&
               cache_repo_folder(cache, id, &repo, NULL) == 0 &&
               cache_read_ref(repo, "main", commit) &&
               path_make(&path, NULL, "%s/snapshots/%s/config.json", repo, commit) == 0 &&
               path_is_file(path, NULL);
    mem_free(path);
    mem_free(repo);
    mem_free(cache);
    return has;
}

// config.json of the language model inside, when the model names one.
static int pull_base_config(const struct pull_order *o, const struct pull_result *model,
                            struct err *e)
{
    static const char *const config[] = {"config.json"};
    char base[REPO_ID_MAX + 1] = "", commit[41], name[sizeof base + sizeof commit];
    char *path = NULL, *text = NULL;
    struct pull_order order = *o;
    struct pull_result result = {0};
    struct err why = {0};
    size_t n;
    if (path_make(&path, NULL, "%s/config.json", model->folder) == 0 &&
        file_read(path, CONFIG_MAX, ERR_MODEL, &text, &n, NULL) == 0)
        (void)config_base_model(text, n, base, NULL);
    mem_free(text);
    mem_free(path);
    if (!*base || has_config(o->cache, base, commit))
        return 0;
    // of the commit that main means here, if it means one: nobody asked to move it
    snprintf(name, sizeof name, "%s%s%s", base, *commit ? "@" : "", commit);
    order.name = name;
    order.local_dir = NULL;
    order.choice = (struct choice){.include = config, .n_include = 1};
    order.progress = NULL;
    order.retries = 0;
    int rc = pull_once(&order, &result, &why);
    pull_free(&result);
    if (rc == ERR_ABORT)
        return err_set(e, rc, "%s", why.msg);
    if (rc != 0)
        log_line(o->hooks, LOG_WARN, "config of the base model not loaded, ivchat does without: %s",
                 why.msg);
    return 0;
}

int hub_pull(const struct pull_order *o, struct pull_result *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    int rc = pull_once(o, out, e);
    if (rc == 0 && !o->dry_run && o->choice.n_include == 0 && !o->local_dir && *out->commit)
        rc = pull_base_config(o, out, e);
    return rc;
}

void pull_free(struct pull_result *r)
{
    for (size_t i = 0; i < r->n; i++)
        mem_free(r->file[i].path);
    mem_free(r->file);
    mem_free(r->folder);
    memset(r, 0, sizeof *r);
}

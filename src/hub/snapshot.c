// SPDX-License-Identifier: MIT
// Look-up of a downloaded model.
//
//   refs/REVISION -> commit -> snapshots/COMMIT; complete = configuration, tokenizer, and one
//   model.safetensors or every shard that the index names
//
// Easy to get wrong: links are made one by one while a download runs, so that a folder exists long before it
// can be used, and a link may dangle after its blob was removed by hand; path_is_file follows links.
#include "hub/snapshot.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "hub/hubcache.h"
#include "hub/hubenv.h"

enum { INDEX_MAX = 64 << 20 };

static bool has(const char *folder, const char *name)
{
    char *path = NULL;
    bool there = path_make(&path, NULL, "%s/%s", folder, name) == 0 && path_is_file(path, NULL);
    mem_free(path);
    return there;
}

// The first shard of the index that is not there.
static void missing_shard(const char *folder, char *out, size_t cap)
{
    struct js_doc d = {NULL};
    char *path = NULL;
    if (path_make(&path, NULL, "%s/model.safetensors.index.json", folder) == 0 &&
        js_load(&d, path, INDEX_MAX, ERR_MODEL, NULL) == 0) {
        const js_value *map = js_get(d.root, "weight_map");
        const char *last = "";
        for (void *it = js_iter(map); it && !*out; it = js_next(map, it)) {
            size_t n;
            const char *shard = js_str(js_iter_value(it), &n);
            if (!shard || !strcmp(shard, last))
                continue; // a damaged index is told by the loader
            if (repo_path_is_safe(shard, n) && !has(folder, shard))
                snprintf(out, cap, "%s", shard);
            last = shard;
        }
    }
    js_free(&d);
    mem_free(path);
}

void snapshot_missing(const char *folder, bool weights, char *out, size_t cap)
{
    out[0] = 0;
    if (!has(folder, "config.json"))
        snprintf(out, cap, "config.json");
    else if (!has(folder, "tokenizer.json") && !has(folder, "tokenizer.model"))
        snprintf(out, cap, "tokenizer.json");
    else if (weights && has(folder, "model.safetensors.index.json"))
        missing_shard(folder, out, cap);
    else if (weights && !has(folder, "model.safetensors"))
        snprintf(out, cap, "model.safetensors");
}

int snapshot_find(const char *text, const char *given, bool weights, char **folder, struct err *e)
{
    struct repo_name name;
    char commit[41], missing[300], command[400];
    char *cache = NULL, *repo = NULL, *path = NULL;
    int rc;
    *folder = NULL;
    TRY(repo_name_parse(text, &name, e));
    TRY(hubenv_cache(given, &cache, e));
    TRY(cache_repo_folder(cache, name.id, &repo, e));
    snprintf(command, sizeof command, "ivchat pull %s%s%s", name.id, name.has_revision ? "@" : "",
             name.has_revision ? name.revision : "");
    if (!path_is_folder(repo))
        TRY(err_set(e, ERR_MODEL, "%s: no such folder, and not in the cache %s; `%s` downloads it",
                    text, cache, command));
    if (!cache_read_ref(repo, name.revision, commit))
        TRY(err_set(e, ERR_MODEL,
                    "%s: revision %s is not, or only partly, in the cache %s; `%s` "
                    "finishes it",
                    text, name.revision, cache, command));
    TRY(path_make(&path, e, "%s/snapshots/%s", repo, commit));
    snapshot_missing(path, weights, missing, sizeof missing);
    if (*missing)
        TRY(err_set(e, ERR_MODEL,
                    "%s: only partly downloaded, %s is missing in %s; `%s` finishes it", text,
                    missing, path, command));
    *folder = path;
    path = NULL;
fail:
    mem_free(path);
    mem_free(repo);
    mem_free(cache);
    return rc;
}

// SPDX-License-Identifier: MIT
// Look-up of a downloaded model.
//
//   refs/REVISION -> commit -> snapshots/COMMIT; complete = configuration, tokenizer, and one
//   model.safetensors or every shard that the index names
//
// Easy to get wrong: links are made one by one while a download runs, so that a folder exists long before it
// can be used, and a link may dangle after its blob was removed by hand; path_is_file follows links.
#include "hub/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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

// Where a snapshot lies, whatever it holds; command: what downloads or finishes it. text is for messages.
static int locate(const char *text, const struct repo_name *name, const char *given, char *command,
                  size_t cap, char **path, struct err *e)
{
    char commit[41], *cache = NULL, *repo = NULL;
    int rc;
    TRY(hubenv_cache(given, &cache, e));
    TRY(cache_repo_folder(cache, name->id, &repo, e));
    snprintf(command, cap, "ivchat pull %s%s%s", name->id, name->has_revision ? "@" : "",
             name->has_revision ? name->revision : "");
    if (!path_is_folder(repo))
        TRY(err_set(e, ERR_MODEL, "%s: no such folder, and not in the cache %s; `%s` downloads it",
                    text, cache, command));
    if (!cache_read_ref(repo, name->revision, commit))
        TRY(err_set(e, ERR_MODEL,
                    "%s: revision %s is not, or only partly, in the cache %s; `%s` "
                    "finishes it",
                    text, name->revision, cache, command));
    TRY(path_make(path, e, "%s/snapshots/%s", repo, commit));
fail:
    mem_free(repo);
    mem_free(cache);
    return rc;
}

// "TYPE" of a "NAME-TYPE.gguf" in the folder; false = there is none.
static bool a_type(const char *folder, char *out, size_t cap)
{
    DIR *dir = opendir(folder);
    struct dirent *d;
    out[0] = 0;
    while (dir && !*out && (d = readdir(dir)) != NULL) {
        const char *dash = strrchr(d->d_name, '-'), *end = dash ? strrchr(dash, '.') : NULL;
        if (end && strcasecmp(end, ".gguf") == 0 && strncmp(d->d_name, "mmproj-", 7) != 0 &&
            !strstr(d->d_name, "-of-"))
            snprintf(out, cap, "%.*s", (int)(end - dash - 1), dash + 1);
    }
    if (dir)
        closedir(dir);
    return *out;
}

int snapshot_find(const char *text, const char *given, bool weights, char **folder, struct err *e)
{
    struct repo_name name;
    char missing[300], command[400], type[32], *path = NULL;
    int rc;
    *folder = NULL;
    TRY(repo_name_parse(text, &name, e));
    TRY(locate(text, &name, given, command, sizeof command, &path, e));
    snapshot_missing(path, weights, missing, sizeof missing);
    if (strcmp(missing, "config.json") == 0 && a_type(path, type, sizeof type))
        TRY(err_set(e, ERR_MODEL, "%s: GGUF files; say of which type: %s:%s", text, text, type));
    if (*missing)
        TRY(err_set(e, ERR_MODEL,
                    "%s: only partly downloaded, %s is missing in %s; `%s` finishes it", text,
                    missing, path, command));
    *folder = path;
    path = NULL;
fail:
    mem_free(path);
    return rc;
}

// Language files of a type: "NAME-TYPE.gguf", in either case.
static bool is_of_type(const char *file, const char *type)
{
    static const char end[] = ".gguf";
    size_t n = strlen(file), m = strlen(type), tail = sizeof end - 1;
    return n > m + tail + 1 && strncmp(file, "mmproj-", 7) != 0 &&
           strcasecmp(file + n - tail, end) == 0 && file[n - tail - m - 1] == '-' &&
           strncasecmp(file + n - tail - m, type, m) == 0;
}

static int find_type(const char *text, const char *type, const char *command, const char *folder,
                     char **file, struct err *e)
{
    int rc = 0;
    struct dirent *d;
    DIR *dir = opendir(folder);
    if (!dir)
        return err_set(e, ERR_MODEL, "%s: %s: %s", text, folder, strerror(errno));
    while (rc == 0 && (d = readdir(dir)) != NULL) {
        if (!is_of_type(d->d_name, type))
            continue;
        if (*file)
            rc = err_set(e, ERR_MODEL,
                         "%s: both %s and %s/%s are of type %s; name one with its path", text,
                         *file, folder, d->d_name, type);
        else
            rc = path_make(file, e, "%s/%s", folder, d->d_name);
    }
    closedir(dir);
    if (rc == 0 && !*file)
        rc =
            err_set(e, ERR_MODEL, "%s: no *-%s.gguf in %s; `%s --include '*-%s.gguf'` downloads it",
                    text, type, folder, command, type);
    return rc;
}

int snapshot_find_type(const char *text, const char *given, char **file, struct err *e)
{
    struct repo_name name;
    char command[400], *path = NULL, *plain = NULL;
    const char *type = strchr(text, ':');
    int rc;
    *file = NULL;
    if (!type || !type[1] || strlen(type) > 32 || strchr(type, '/'))
        TRY(err_set(e, ERR_USAGE, "%s: expected ORG/REPO[@REVISION]:TYPE", text));
    plain = mem_strndup(text, (size_t)(type - text));
    if (!plain)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", text));
    TRY(repo_name_parse(plain, &name, e));
    TRY(locate(text, &name, given, command, sizeof command, &path, e));
    TRY(find_type(text, type + 1, command, path, file, e));
fail:
    if (rc != 0) {
        mem_free(*file);
        *file = NULL;
    }
    mem_free(path);
    mem_free(plain);
    return rc;
}

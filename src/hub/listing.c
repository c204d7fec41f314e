// SPDX-License-Identifier: MIT
// JSON of the hub's API.
//
//   tree: [{"type":"file","oid":G,"size":N,"path":P,"lfs":{"oid":S,"size":N,...}}, {"type":"directory",...}]
//   info: {"sha":C, "cardData":{"base_model": "ORG/REPO" or a list of them}, ...}
//
// Easy to get wrong: for a large file the outer "oid" names git's pointer, not the content, so only
// lfs.oid may be compared with it; one unsafe name condemns the list, since who writes "../x" once may
// have written other things that we do not know.
#include "hub/listing.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"

static int grow(struct listing *l, struct err *e)
{
    if (l->n < l->cap)
        return 0;
    size_t cap = l->cap ? 2 * l->cap : 64;
    struct remote_file *more = mem_realloc(l->file, cap, sizeof *more);
    if (!more)
        return err_set(e, ERR_LIMIT, "out of memory for a list of %zu files", cap);
    l->file = more;
    l->cap = cap;
    return 0;
}

static bool copy_hex(const js_value *v, char *out, size_t digits)
{
    size_t n;
    const char *s = js_str(v, &n);
    if (!s || n != digits || !(digits == 40 ? repo_is_commit(s) : repo_is_sha256(s)))
        return false;
    memcpy(out, s, n + 1);
    return true;
}

static int add_file(struct listing *l, const js_value *entry, const char *name, struct err *e)
{
    struct remote_file f = {0};
    const js_value *lfs = js_get(entry, "lfs");
    size_t n = 0;
    const char *path = js_str(js_get(entry, "path"), &n);
    if (!path)
        return err_set(e, ERR_NETWORK, "%s: entry %zu of the hub's list has no path", name, l->n);
    if (!repo_path_is_safe(path, n))
        return err_set(e, ERR_NETWORK, "%s: the hub lists an unsafe file name \"%.200s\"", name,
                       path);
    if (!js_u64(js_get(js_is_null(lfs) ? entry : lfs, "size"), &f.size))
        return err_set(e, ERR_NETWORK, "%s: the hub's list has no size for %s", name, path);
    if (js_is_null(lfs) ? !copy_hex(js_get(entry, "oid"), f.oid, 40)
                        : !copy_hex(js_get(lfs, "oid"), f.sha256, 64))
        return err_set(e, ERR_NETWORK, "%s: the hub's list has no checksum for %s", name, path);
    if (f.size > LISTING_MAX_BYTES || l->bytes > LISTING_MAX_BYTES - f.size)
        return err_set(e, ERR_NETWORK, "%s: the hub lists more than %llu bytes (%s: %llu)", name,
                       (unsigned long long)LISTING_MAX_BYTES, path, (unsigned long long)f.size);
    if (l->n >= LISTING_MAX_FILES)
        return err_set(e, ERR_NETWORK, "%s: the hub lists more than %d files", name,
                       LISTING_MAX_FILES);
    int rc = grow(l, e);
    if (rc != 0)
        return rc;
    f.path = mem_strndup(path, n);
    if (!f.path)
        return err_set(e, ERR_LIMIT, "out of memory for a list of %zu files", l->n);
    l->file[l->n++] = f;
    l->bytes += f.size;
    return 0;
}

int listing_add_page(struct listing *l, const char *json, size_t n, const char *name, struct err *e)
{
    struct js_doc d = {NULL};
    size_t len;
    int rc;
    TRY(js_parse(&d, json, n, name, ERR_NETWORK, e));
    if (!js_is_array(d.root))
        TRY(err_set(e, ERR_NETWORK, "%s: the hub's list of files is no JSON array", name));
    for (size_t i = 0; i < js_size(d.root); i++) {
        const js_value *entry = js_at(d.root, i);
        const char *type = js_str(js_get(entry, "type"), &len);
        if (!js_is_object(entry) || !type)
            TRY(err_set(e, ERR_NETWORK, "%s: entry %zu of the hub's list has no type", name, i));
        if (!strcmp(type, "file"))
            TRY(add_file(l, entry, name, e));
    }
fail:
    js_free(&d);
    return rc;
}

static int by_path(const void *a, const void *b)
{
    const struct remote_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

int listing_finish(struct listing *l, const char *name, struct err *e)
{
    if (l->n)
        qsort(l->file, l->n, sizeof *l->file, by_path);
    for (size_t i = 1; i < l->n; i++) {
        if (!strcmp(l->file[i - 1].path, l->file[i].path))
            return err_set(e, ERR_NETWORK, "%s: the hub lists %s twice", name, l->file[i].path);
    }
    return 0;
}

void listing_free(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        mem_free(l->file[i].path);
    mem_free(l->file);
    memset(l, 0, sizeof *l);
}

static void copy_repo(const js_value *v, char out[REPO_ID_MAX + 1])
{
    struct repo_name parsed;
    size_t n;
    const char *s = js_str(js_is_array(v) ? js_at(v, 0) : v, &n);
    out[0] = 0;
    if (s && n == strlen(s) && repo_name_parse(s, &parsed, NULL) == 0 && !parsed.has_revision)
        memcpy(out, parsed.id, strlen(parsed.id) + 1);
}

int repo_info_parse(const char *json, size_t n, const char *name, struct repo_info *out,
                    struct err *e)
{
    struct js_doc d = {NULL};
    memset(out, 0, sizeof *out);
    int rc = js_parse(&d, json, n, name, ERR_NETWORK, e);
    if (rc != 0)
        return rc;
    if (copy_hex(js_get(d.root, "sha"), out->commit, 40))
        copy_repo(js_get(js_get(d.root, "cardData"), "base_model"), out->base_model);
    else
        rc = err_set(e, ERR_NETWORK, "%s: the hub's answer names no commit", name);
    js_free(&d);
    return rc;
}

int config_base_model(const char *json, size_t n, char out[REPO_ID_MAX + 1], struct err *e)
{
    struct js_doc d = {NULL};
    out[0] = 0;
    int rc = js_parse(&d, json, n, "config.json", ERR_MODEL, e);
    if (rc != 0)
        return rc;
    const js_value *llm = js_get(js_get(d.root, "model_config"), "llm");
    copy_repo(js_get(llm, "pretrained_llm_path"), out);
    js_free(&d);
    return 0;
}

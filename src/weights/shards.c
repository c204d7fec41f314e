// SPDX-License-Identifier: MIT
// The tensors of a model directory, from one file or from the shards that an index names.
//
//   model.safetensors.index.json   {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}
//
// The index is read first; only without one the single model.safetensors is looked for. Index and
// shards must say the same of every tensor: neither may have one that the other lacks or has elsewhere.
// Source: SPEC 2.1. Easy to get wrong: a name in the index is a path on our disk once it is joined to
// the directory, so only plain file names are taken; comparing counts alone accepts a shard that holds
// another shard's tensor twice.
#include "weights/weights.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

enum {
    INDEX_MAX = 64 << 20, // bytes of index; the release has 157 KB
    SHARD_MAX = 1024,     // files
    SHARD_NAME_MAX = 255, // bytes of a file name
};

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

struct shard {
    char *path;
    struct st_file st;
    struct gguf_file gguf; // of this or the other kind
};

struct weights {
    struct shard *shard; // [n_shard] by file name
    size_t n_shard;
    struct tensor *tensor; // [n] shard by shard, in file order
    uint32_t *shard_of;    // [n]
    uint32_t *by_name;     // [n] indices into tensor, sorted by name
    size_t n;
    char *names; // those of adapted tensors
};

static int out_of_memory(const char *what, struct err *e)
{
    return err_set(e, ERR_LIMIT, "%s: out of memory", what);
}

static char *path_join(const char *dir, const char *file)
{
    size_t a = strlen(dir), b = strlen(file), n;
    if (!add_size(a, b, &n) || !add_size(n, 2, &n))
        return NULL;
    char *path = mem_calloc(n, 1);
    if (path)
        snprintf(path, n, "%s%s%s", dir, a && dir[a - 1] == '/' ? "" : "/", file);
    return path;
}

static int file_name_check(const char *name, size_t n, const char *tensor, const char *index,
                           struct err *e)
{
    bool plain = n > 0 && n <= SHARD_NAME_MAX && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    for (size_t i = 0; plain && i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        plain = c >= 0x20 && c != 0x7f && c != '/' && c != '\\';
    }
    if (!plain)
        return err_set(e, ERR_MODEL,
                       "%s: %.200s is said to be in \"%.200s\", which is no plain file name", index,
                       tensor, name);
    return 0;
}

static int text_compare(const void *pa, const void *pb)
{
    return strcmp(*(const char *const *)pa, *(const char *const *)pb);
}

// Distinct file names of the map, sorted. *out is the caller's (mem_free), its strings belong to the map.
static int shard_names(const js_value *map, const char *index, const char ***out, size_t *n_out,
                       struct err *e)
{
    int rc;
    size_t n = 0, kept = 0;
    *n_out = 0;
    *out = NULL;
    const char **name = mem_calloc(js_size(map), sizeof *name);
    if (!name)
        return out_of_memory(index, e);
    for (void *it = js_iter(map); it; it = js_next(map, it)) {
        size_t len;
        const char *tensor = js_iter_key(it, NULL);
        const char *s = js_str(js_iter_value(it), &len);
        if (!s) {
            rc = err_set(e, ERR_MODEL, "%s: weight_map: the file of %.200s is no string", index,
                         tensor);
            goto fail;
        }
        TRY(file_name_check(s, len, tensor, index, e));
        name[n++] = s;
    }
    qsort(name, n, sizeof *name, text_compare);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(name[i], name[kept - 1]) != 0)
            name[kept++] = name[i];
    }
    if (kept > SHARD_MAX) {
        rc =
            err_set(e, ERR_MODEL, "%s: %zu files, at most %d are accepted", index, kept, SHARD_MAX);
        goto fail;
    }
    *out = name;
    *n_out = kept;
    return 0;
fail:
    mem_free(name);
    return rc;
}

static int shards_open(struct weights *w, const char *dir, const char *const *name, size_t n,
                       struct err *e)
{
    int rc;
    w->shard = mem_calloc(n, sizeof *w->shard);
    if (!w->shard)
        return out_of_memory(dir, e);
    for (size_t i = 0; i < n; i++) {
        struct shard *s = &w->shard[i];
        s->path = path_join(dir, name[i]);
        if (!s->path)
            return out_of_memory(dir, e);
        w->n_shard = i + 1;
        TRY(st_open(&s->st, s->path, e));
        if (!add_size(w->n, s->st.n_tensor, &w->n) || w->n > ST_TENSOR_MAX)
            return err_set(e, ERR_MODEL, "%s: more than %d tensors", dir, ST_TENSOR_MAX);
    }
    return 0;
fail:
    return rc;
}

// qsort has no context argument, so names and indices travel together.
struct named {
    const char *name;
    uint32_t i;
};

static int named_compare(const void *pa, const void *pb)
{
    return strcmp(((const struct named *)pa)->name, ((const struct named *)pb)->name);
}

// Puts the tensors of all shards into one table, sorted by name beside it.
static int tensors_gather(struct weights *w, const char *dir, struct err *e)
{
    int rc = 0;
    size_t n = 0;
    struct named *order = mem_calloc(w->n, sizeof *order);
    w->tensor = mem_calloc(w->n, sizeof *w->tensor);
    w->shard_of = mem_calloc(w->n, sizeof *w->shard_of);
    w->by_name = mem_calloc(w->n, sizeof *w->by_name);
    if (!order || !w->tensor || !w->shard_of || !w->by_name) {
        rc = out_of_memory(dir, e);
        goto fail;
    }
    for (size_t s = 0; s < w->n_shard; s++) {
        const struct st_file *st = &w->shard[s].st;
        const struct gguf_file *gguf = &w->shard[s].gguf;
        for (size_t i = 0; i < st->n_tensor + gguf->n_tensor; i++, n++) {
            w->tensor[n] = i < st->n_tensor ? st->tensor[i] : gguf->tensor[i];
            w->shard_of[n] = (uint32_t)s;
            order[n] = (struct named){w->tensor[n].name, (uint32_t)n};
        }
    }
    qsort(order, n, sizeof *order, named_compare);
    for (size_t i = 0; i < n; i++) {
        w->by_name[i] = order[i].i;
        if (i && strcmp(order[i].name, order[i - 1].name) == 0) {
            rc = err_set(e, ERR_MODEL, "%s is in %s and in %s", order[i].name,
                         w->shard[w->shard_of[order[i - 1].i]].path,
                         w->shard[w->shard_of[order[i].i]].path);
            goto fail;
        }
    }
fail:
    mem_free(order);
    return rc;
}

// Both ways: what the shards hold is what the index says, and nothing in the index is missing.
static int index_check(const struct weights *w, const char *const *name, const js_value *map,
                       const char *index, struct err *e)
{
    for (size_t i = 0; i < w->n; i++) {
        const char *file = name[w->shard_of[i]];
        const char *said = js_str(js_get(map, w->tensor[i].name), NULL);
        if (!said)
            return err_set(e, ERR_MODEL, "%s: %s of file %s is not in the index", index,
                           w->tensor[i].name, file);
        if (strcmp(said, file) != 0)
            return err_set(e, ERR_MODEL, "%s: %s is said to be in %s but is in %s", index,
                           w->tensor[i].name, said, file);
    }
    for (void *it = js_iter(map); it && js_size(map) != w->n; it = js_next(map, it)) {
        const char *tensor = js_iter_key(it, NULL);
        if (!weights_find(w, tensor))
            return err_set(e, ERR_MODEL, "%s: %.400s is said to be in %s, which lacks it", index,
                           tensor, js_str(js_iter_value(it), NULL));
    }
    return 0;
}

static int total_size_check(const struct weights *w, const js_value *root, const char *index,
                            struct err *e)
{
    const js_value *meta = js_get(root, "metadata");
    const js_value *v = js_get(meta, "total_size");
    uint64_t sum = 0;
    double total;
    if (!js_is_null(meta) && !js_is_object(meta))
        return err_set(e, ERR_MODEL, "%s: metadata is no object", index);
    if (js_is_null(v))
        return 0;
    if (!js_num(v, &total)) // some writers make it a real; sums of file sizes are exact in a double
        return err_set(e, ERR_MODEL, "%s: metadata.total_size is no number", index);
    for (size_t i = 0; i < w->n_shard; i++)
        sum += w->shard[i].st.data_bytes; // each is below the size of a mapped file: no overflow
    if (!(total == (double)sum))
        return err_set(e, ERR_MODEL,
                       "%s: metadata.total_size is %.0f, the tensors of its files take %" PRIu64
                       " bytes",
                       index, total, sum);
    return 0;
}

static int open_indexed(struct weights *w, const char *dir, const char *index, struct err *e)
{
    int rc;
    struct js_doc doc = {0};
    const char **name = NULL;
    size_t n;
    TRY(js_load(&doc, index, INDEX_MAX, ERR_MODEL, e));
    const js_value *map = js_get(doc.root, "weight_map");
    if (!js_is_object(map) || js_size(map) == 0) {
        rc = err_set(e, ERR_MODEL, "%s: weight_map is missing, empty or no object", index);
        goto fail;
    }
    TRY(shard_names(map, index, &name, &n, e));
    TRY(shards_open(w, dir, name, n, e));
    TRY(tensors_gather(w, dir, e));
    TRY(index_check(w, name, map, index, e));
    TRY(total_size_check(w, doc.root, index, e));
fail:
    mem_free(name);
    js_free(&doc);
    return rc;
}

static int open_single(struct weights *w, const char *dir, struct err *e)
{
    int rc;
    const char *name = single_name;
    TRY(shards_open(w, dir, &name, 1, e));
    TRY(tensors_gather(w, dir, e));
fail:
    return rc;
}

// A dangling link counts as present: its error should name it.
static bool path_exists(const char *dir, const char *file, bool *exists)
{
    struct stat st;
    char *path = path_join(dir, file);
    if (!path)
        return false;
    *exists = lstat(path, &st) == 0;
    mem_free(path);
    return true;
}

int weights_open(const char *dir, struct weights **out, struct err *e)
{
    int rc;
    bool indexed, single;
    struct stat st;
    *out = NULL;
    if (stat(dir, &st) != 0)
        return err_set(e, ERR_MODEL, "%s: %s", dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_MODEL, "%s: not a directory", dir);
    struct weights *w = mem_calloc(1, sizeof *w);
    char *index = path_join(dir, index_name);
    if (!w || !index || !path_exists(dir, index_name, &indexed) ||
        !path_exists(dir, single_name, &single)) {
        rc = out_of_memory(dir, e);
        goto fail;
    }
    if (!indexed && !single) {
        rc = err_set(e, ERR_MODEL, "%s: neither %s nor %s is there", dir, index_name, single_name);
        goto fail;
    }
    if (indexed)
        TRY(open_indexed(w, dir, index, e));
    else
        TRY(open_single(w, dir, e));
    mem_free(index);
    *out = w;
    return 0;
fail:
    mem_free(index);
    weights_close(w);
    return rc;
}

// Gives every tensor of a file the name and shape that adapt says.
static int adapt_all(struct gguf_file *f, char **names, weights_adapt_fn *adapt, void *user,
                     struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < f->n_tensor; i++) {
        char *name = *names;
        TRY(adapt(user, &f->tensor[i], name, WEIGHTS_NAME_MAX, e));
        f->tensor[i].name = name;
        *names += strlen(name) + 1;
    }
fail:
    return rc;
}

int weights_take_gguf(struct gguf_file *file, size_t n, weights_adapt_fn *adapt, void *user,
                      struct weights **out, struct err *e)
{
    int rc;
    size_t bytes;
    *out = NULL;
    struct weights *w = mem_calloc(1, sizeof *w);
    if (!w || !(w->shard = mem_calloc(n, sizeof *w->shard))) {
        rc = out_of_memory(file[0].path, e);
        goto fail;
    }
    for (; w->n_shard < n; w->n_shard++) {
        struct shard *s = &w->shard[w->n_shard];
        s->gguf = file[w->n_shard];
        memset(&file[w->n_shard], 0, sizeof *file);
        w->n += s->gguf.n_tensor; // each at most GGUF_TENSOR_MAX
        s->path = mem_strndup(s->gguf.path, strlen(s->gguf.path));
        if (!s->path) {
            w->n_shard++;
            rc = out_of_memory("GGUF files", e);
            goto fail;
        }
    }
    // longest names: the room for the last one is WEIGHTS_NAME_MAX too
    if (!mul_size(w->n + 1, WEIGHTS_NAME_MAX, &bytes) || !(w->names = mem_calloc(bytes, 1))) {
        rc = out_of_memory(w->shard[0].path, e);
        goto fail;
    }
    char *names = w->names;
    for (size_t i = 0; i < n; i++)
        TRY(adapt_all(&w->shard[i].gguf, &names, adapt, user, e));
    TRY(tensors_gather(w, w->shard[0].path, e));
    *out = w;
    return 0;
fail:
    for (size_t i = 0; i < n; i++)
        gguf_close(&file[i]);
    weights_close(w);
    return rc;
}

const struct gguf_file *weights_gguf(const struct weights *w, size_t i)
{
    return i < w->n_shard && w->shard[i].gguf.path ? &w->shard[i].gguf : NULL;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_shard; i++) {
        st_close(&w->shard[i].st);
        gguf_close(&w->shard[i].gguf);
        mem_free(w->shard[i].path);
    }
    mem_free(w->shard);
    mem_free(w->tensor);
    mem_free(w->shard_of);
    mem_free(w->by_name);
    mem_free(w->names);
    mem_free(w);
}

size_t weights_count(const struct weights *w)
{
    return w->n;
}

const struct tensor *weights_at(const struct weights *w, size_t i)
{
    return i < w->n ? &w->tensor[i] : NULL;
}

size_t weights_index(const struct weights *w, const struct tensor *t)
{
    return (size_t)(t - w->tensor);
}

const struct tensor *weights_find(const struct weights *w, const char *name)
{
    size_t lo = 0, hi = w->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct tensor *t = &w->tensor[w->by_name[mid]];
        int c = strcmp(name, t->name);
        if (c == 0)
            return t;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const char *weights_file(const struct weights *w, const struct tensor *t)
{
    const struct tensor *own = t->name ? weights_find(w, t->name) : NULL; // t may be a bound copy
    return own ? w->shard[w->shard_of[weights_index(w, own)]].path : NULL;
}

size_t weights_file_count(const struct weights *w)
{
    return w->n_shard;
}

const char *weights_file_at(const struct weights *w, size_t i, size_t *bytes)
{
    if (i >= w->n_shard)
        return NULL;
    if (bytes)
        *bytes = w->shard[i].st.map.size + w->shard[i].gguf.map.size;
    return w->shard[i].path;
}

uint64_t weights_file_bytes(const struct weights *w)
{
    uint64_t all = 0;
    for (size_t i = 0; i < w->n_shard; i++)
        all += w->shard[i].st.map.size + w->shard[i].gguf.map.size;
    return all;
}

const void *weights_map_at(const struct weights *w, size_t i)
{
    if (i >= w->n_shard)
        return NULL;
    const struct shard *s = &w->shard[i];
    return s->st.map.data ? s->st.map.data : s->gguf.map.data;
}

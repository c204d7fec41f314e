// SPDX-License-Identifier: MIT
// A snapshot without LoRA: model.safetensors with every tensor under its own name, config.json that says so,
// and the tokenizer's files as they are.
//
// Tensors stand by element size, then as they are used: so each is aligned to its elements. model.safetensors
// is written last, since with it the folder becomes a model.
// Easy to get wrong: "use_lora" is edited in the text of config.json, which keeps everything that we do not
// know of; a config that lacks it, or has it twice, cannot be edited so and is refused.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/filemap.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "engine/quantizing.h"
#include "hub/hubcache.h"

enum { COPY_MAX = 64 << 20, NOTE_MAX = 1 << 20 };

static const char lora_a[] = ".lora_A.default.weight", lora_b[] = ".lora_B.default.weight";

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);
    return n >= m && strcmp(s + n - m, with) == 0;
}

static int write_file(const char *folder, const char *name, const void *bytes, size_t n,
                      const struct hooks *hooks, struct err *e)
{
    int rc;
    char *path = NULL;
    struct outfile f = {0};
    TRY(path_make(&path, e, "%s/%s", folder, name));
    TRY(outfile_create(&f, path, hooks, e));
    TRY(outfile_add(&f, bytes, n, e));
    TRY(outfile_commit(&f, e));
fail:
    outfile_abandon(&f);
    mem_free(path);
    return rc;
}

static int copy_file(const char *from, const char *folder, const char *name,
                     const struct hooks *hooks, struct err *e)
{
    int rc;
    char *path = NULL, *text = NULL;
    size_t n;
    TRY(path_make(&path, e, "%s/%s", from, name));
    if (access(path, F_OK) != 0)
        goto fail;
    TRY(file_read(path, COPY_MAX, ERR_MODEL, &text, &n, e));
    TRY(write_file(folder, name, text, n, hooks, e));
fail:
    mem_free(text);
    mem_free(path);
    return rc;
}

static int write_config(const struct model *m, const char *from, const char *folder,
                        const struct hooks *hooks, struct err *e)
{
    static const char key[] = "\"use_lora\"";
    int rc;
    char *path = NULL, *text = NULL;
    size_t n;
    struct buf out = {0};
    TRY(path_make(&path, e, "%s/config.json", from));
    TRY(file_read(path, NOTE_MAX, ERR_MODEL, &text, &n, e));
    char *at = strstr(text, key), *v = at ? at + strlen(key) : NULL;
    if (m->config.llm.lora_r == 0) {
        buf_add(&out, text, n);
    } else {
        v = v ? v + strspn(v, " \t\r\n:") : NULL;
        if (!v || strncmp(v, "true", 4) != 0 || strstr(v, key))
            TRY(err_set(e, ERR_MODEL, "%s: no single \"use_lora\": true to turn off", path));
        buf_add(&out, text, (size_t)(v - text));
        buf_add_str(&out, "false");
        buf_add(&out, v + 4, n - (size_t)(v + 4 - text));
    }
    if (out.failed)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", path));
    TRY(write_file(folder, "config.json", out.data, out.len, hooks, e));
fail:
    buf_free(&out);
    mem_free(text);
    mem_free(path);
    return rc;
}

// The linear layer of a checkpoint's weight, for its LoRA pair; false without one.
static bool find_lora(const struct model *m, const char *name, struct linear *out)
{
    char full[WEIGHTS_NAME_MAX];
    size_t n = strlen(name) - strlen(".weight");
    snprintf(full, sizeof full, "%.*s%s", (int)n, name, lora_a);
    const struct tensor *a = weights_find(m->weights, full);
    snprintf(full, sizeof full, "%.*s%s", (int)n, name, lora_b);
    const struct tensor *b = weights_find(m->weights, full);
    if (!a || !b)
        return false;
    const struct llm_config *c = &m->config.llm;
    *out =
        (struct linear){.lora_a = *a, .lora_b = *b, .lora_scale = c->lora_alpha / (float)c->lora_r};
    return true;
}

// name without ".base_layer".
static void plain_name(char *out, size_t cap, const char *name)
{
    static const char inner[] = ".base_layer";
    const char *at = strstr(name, inner);
    snprintf(out, cap, "%.*s%s", (int)(at ? at - name : 0), name, at ? at + strlen(inner) : name);
}

static int add_tensor(struct quant_list *l, const struct model *m, const struct tensor *from,
                      enum dtype type, struct linear *lora, size_t *n_lora, struct err *e)
{
    struct quant_tensor *t = quant_list_add(l);
    if (!t)
        return err_set(e, ERR_LIMIT, "quantize: out of memory for the list of tensors");
    plain_name(t->name, sizeof t->name, from->name);
    t->from = from;
    t->type = from->dtype;
    quant_tensor_shape(t, from->dim, from->rank);
    if (strncmp(from->name, "lm.", 3) == 0 && from->rank == 2 && type != DT_N)
        t->type = type;
    if (ends(t->name, ".weight") && find_lora(m, t->name, &lora[*n_lora]))
        t->lora = &lora[(*n_lora)++];
    return 0;
}

// Bound tensors by element size; lora [of m->n_order].
static int list_tensors(struct quant_list *l, const struct model *m, enum dtype type,
                        struct linear *lora, struct err *e)
{
    int rc = 0;
    size_t n_lora = 0;
    for (size_t bytes = 4; bytes >= 2; bytes -= 2)
        for (size_t i = 0; i < m->n_order; i++) {
            const struct tensor *t = m->order[i];
            bool matrix = strncmp(t->name, "lm.", 3) == 0 && t->rank == 2;
            enum dtype to = matrix && type != DT_N ? type : t->dtype;
            if (ends(t->name, lora_a) || ends(t->name, lora_b) || dtype_bytes(to) != bytes)
                continue;
            TRY(add_tensor(l, m, t, type, lora, &n_lora, e));
        }
fail:
    return rc;
}

static int write_header(struct outfile *f, const struct quant_list *l, struct err *e)
{
    int rc;
    char shape[128];
    struct buf b = {0};
    size_t at = 0;
    buf_add_str(&b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < l->n; i++) { // names are those of our tables: nothing to escape
        const struct quant_tensor *t = &l->t[i];
        size_t bytes = dtype_span(t->type, t->rows * t->cols);
        buf_printf(&b, ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                   t->name, dtype_name(t->type), shape_text(t->dim, t->rank, shape, sizeof shape),
                   at, at + bytes);
        at += bytes;
    }
    buf_add_str(&b, "}");
    while (b.len % 8 != 0 && buf_add(&b, " ", 1))
        continue;
    uint64_t n = b.len;
    if (b.failed)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", f->path));
    TRY(outfile_add(f, &n, sizeof n, e));
    TRY(outfile_add(f, b.data, b.len, e));
fail:
    buf_free(&b);
    return rc;
}

static int file_data(void *user, const void *bytes, size_t n, struct err *e)
{
    return outfile_add(user, bytes, n, e);
}

static int file_end(void *user, struct err *e)
{
    (void)user;
    (void)e;
    return 0;
}

static int write_weights(const struct model *m, const char *path, enum dtype type,
                         struct pool *pool, struct quant_progress *p, struct err *e)
{
    int rc;
    struct quant_list list = {0};
    struct outfile f = {0};
    const struct quant_sink sink = {&f, file_data, file_end};
    struct linear *lora = mem_calloc(m->n_order, sizeof *lora);
    if (!lora)
        return err_set(e, ERR_LIMIT, "quantize: out of memory for the list of tensors");
    TRY(list_tensors(&list, m, type, lora, e));
    p->total = quant_list_bytes(&list);
    TRY(outfile_create(&f, path, p->hooks, e));
    TRY(write_header(&f, &list, e));
    TRY(quant_stream(&list, &m->config.llm, pool, p, &sink, e));
    TRY(outfile_commit(&f, e));
fail:
    outfile_abandon(&f);
    quant_list_free(&list);
    mem_free(lora);
    return rc;
}

int quant_merge(const struct model *m, const char *from, const char *folder, enum dtype type,
                struct pool *pool, struct quant_progress *p, char **file, struct err *e)
{
    static const char *const copied[] = {"tokenizer.json", "tokenizer.model",
                                         "tokenizer_config.json", "vocab.txt"};
    int rc = 0;
    struct stat a, b;
    *file = NULL;
    if (stat(from, &a) == 0 && stat(folder, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        TRY(err_set(e, ERR_USAGE, "%s: the source cannot be the target", folder));
    for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++)
        TRY(copy_file(from, folder, copied[i], p->hooks, e));
    TRY(write_config(m, from, folder, p->hooks, e));
    TRY(path_make(file, e, "%s/model.safetensors", folder));
    TRY(write_weights(m, *file, type, pool, p, e));
fail:
    return rc;
}

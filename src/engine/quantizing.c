// SPDX-License-Identifier: MIT
// iv_quantize: a model directory becomes a language file and a vision file.
//
//   open source -> list tensors and types -> language file -> vision file
//
// Easy to get wrong: both files must be of one source, so the language file is written to its end before
// the vision file begins, and either is whole or absent under its name; the variant goes into the vision
// file, for a renamed folder could not tell it any more.
#include "engine/quantizing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "engine/engine.h"
#include "engine/shipped.h"
#include "hub/hubcache.h"
#include "hub/repo_name.h"
#include "hub/snapshot.h"

struct iv_quantize_options iv_quantize_options_default(void)
{
    return (struct iv_quantize_options){.format = "gguf"};
}

struct job {
    const struct iv_quantize_options *o;
    const struct quant_mix *mix, *vision_mix;
    struct quant_rule *rule; // [n_rule]
    size_t n_rule;
    char *folder; // of the source
    char name[256];
    struct model model;
    struct pool *pool;
    struct hooks hooks;
    struct quant_progress progress;
    struct imatrix imatrix;
};

static int unknown_type(const char *option, const char *name, struct err *e)
{
    return err_set(e, ERR_USAGE, "%s \"%s\": expected one of " QUANT_MIXES, option, name);
}

static int choose_mixes(struct job *j, struct err *e)
{
    static const char plain[] = "Q8_0";
    const char *type = j->o->type ? j->o->type : "Q4_K_M", *vision = j->o->vision_type;
    j->mix = quant_mix_find(type);
    if (!j->mix)
        return unknown_type("type", type, e);
    j->vision_mix = vision                          ? quant_mix_find(vision)
                    : j->mix->other == j->mix->type ? j->mix
                                                    : quant_mix_find(plain);
    return j->vision_mix ? 0 : unknown_type("vision-type", vision, e);
}

// "REGEX=TYPE": the last '=' parts them.
static int read_rule(struct quant_rule *rule, const char *text, struct err *e)
{
    int rc = 0;
    const char *sign = strrchr(text, '=');
    char *regex = sign ? mem_strndup(text, (size_t)(sign - text)) : NULL;
    if (!sign)
        return err_set(e, ERR_USAGE, "tensor-type \"%s\": expected REGEX=TYPE", text);
    if (!regex)
        return err_set(e, ERR_LIMIT, "tensor-type: out of memory");
    if (!quant_type_find(sign + 1, &rule->type))
        rc = err_set(e, ERR_USAGE,
                     "tensor-type \"%s\": \"%s\" is none of F32, F16, BF16, Q8_0, Q6_K, Q5_0, "
                     "Q4_K, Q4_0",
                     text, sign + 1);
    else if (regcomp(&rule->regex, regex, REG_EXTENDED | REG_NOSUB) != 0)
        rc = err_set(e, ERR_USAGE, "tensor-type \"%s\": \"%s\" is no regular expression", text,
                     regex);
    mem_free(regex);
    return rc;
}

static int read_rules(struct job *j, struct err *e)
{
    int rc = 0;
    size_t n = j->o->n_tensor_type;
    if (n == 0)
        return 0;
    j->rule = mem_calloc(n, sizeof *j->rule);
    if (!j->rule)
        return err_set(e, ERR_LIMIT, "tensor-type: out of memory");
    for (; j->n_rule < n; j->n_rule++)
        TRY(read_rule(&j->rule[j->n_rule], j->o->tensor_type[j->n_rule], e));
fail:
    return rc;
}

static int find_source(struct job *j, const char *model, struct err *e)
{
    struct stat st;
    if (stat(model, &st) != 0 && repo_name_is(model))
        return snapshot_find(model, NULL, true, &j->folder, e);
    if (stat(model, &st) == 0 && S_ISREG(st.st_mode))
        return err_set(e, ERR_MODEL,
                       "%s: a file; quantize reads the folder of an unquantised model", model);
    return path_make(&j->folder, e, "%s", model);
}

static void name_of(char *out, size_t cap, const char *path)
{
    size_t n = strlen(path), from;
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (from = n; from > 0 && path[from - 1] != '/'; from--)
        continue;
    snprintf(out, cap, "%.*s", (int)(n - from > 200 ? 200 : n - from), path + from);
    out[strcspn(out, "@")] = 0;
    if (!out[0] || !strcmp(out, ".") || !strcmp(out, "..") || !strcmp(out, "/"))
        snprintf(out, cap, "model");
}

static int write_language(struct job *j, const struct quant_list *l, const char *path,
                          struct err *e)
{
    int rc;
    struct gguf_writer w = {0};
    TRY(quant_keys_language(&w, &j->model.config, j->folder, j->name, j->mix, e));
    TRY(quant_write(&w, l, &j->model.config.llm, path, j->pool, &j->progress, e));
fail:
    gguf_write_abandon(&w);
    return rc;
}

static int write_vision(struct job *j, const struct quant_list *l, const char *path, struct err *e)
{
    int rc;
    struct gguf_writer w = {0};
    TRY(quant_keys_vision(&w, &j->model.config, j->folder, j->name, e));
    TRY(quant_write(&w, l, &j->model.config.llm, path, j->pool, &j->progress, e));
fail:
    gguf_write_abandon(&w);
    return rc;
}

static int file_bytes(const char *path, uint64_t *bytes, struct err *e)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_set(e, ERR_FAIL, "%s: %s", path, strerror(errno));
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int open_source(struct job *j, const char *model, struct err *e)
{
    int rc;
    enum variant v;
    TRY(find_source(j, model, e));
    name_of(j->name, sizeof j->name, model);
    TRY(pool_open((unsigned)j->o->n_threads, &j->pool, e));
    TRY(model_open(&j->model, j->folder, e));
    if (j->o->variant) {
        if (!variant_from_name(j->o->variant, &v))
            TRY(err_set(e, ERR_USAGE, "variant \"%s\": expected 8b, hd, f16 or internlm",
                        j->o->variant));
        config_set_variant(&j->model.config, v);
    }
fail:
    return rc;
}

static int make_folder(const char *folder, struct err *e)
{
    if (mkdir(folder, 0777) == 0 || errno == EEXIST)
        return 0;
    return err_set(e, ERR_FAIL, "%s: %s", folder, strerror(errno));
}

static int merge_all(struct job *j, const char *model, const char *folder,
                     struct iv_quantize_result *out, struct err *e)
{
    int rc;
    bool plain = j->mix->type == DT_F32 || j->mix->type == DT_F16 || j->mix->type == DT_BF16;
    if (j->o->vision_type || j->o->imatrix || j->n_rule > 0 || (j->o->type && !plain))
        TRY(err_set(e, ERR_USAGE,
                    "format safetensors: takes a type of F32, F16 or BF16, no other types and no "
                    "importance matrix"));
    TRY(open_source(j, model, e));
    TRY(make_folder(folder, e));
    TRY(quant_merge(&j->model, j->folder, folder, j->o->type ? j->mix->type : DT_N, j->pool,
                    &j->progress, &out->language, e));
    out->source_bytes = j->progress.total;
    TRY(file_bytes(out->language, &out->language_bytes, e));
fail:
    return rc;
}

// The rows of both files' tensors get their importance.
static int weigh(struct job *j, struct quant_list *language, struct quant_list *vision,
                 struct err *e)
{
    int rc;
    size_t n = 0;
    TRY(imatrix_open(&j->imatrix, j->o->imatrix, e));
    TRY(quant_list_weigh(language, &j->imatrix, j->o->imatrix, &n, e));
    TRY(quant_list_weigh(vision, &j->imatrix, j->o->imatrix, &n, e));
    if (n == 0)
        TRY(err_set(e, ERR_MODEL, "%s: it knows %s and so on, no tensor of this model",
                    j->o->imatrix, j->imatrix.entry[0].name));
    log_line(&j->hooks, LOG_INFO, "%s: importance of %zu tensors", j->o->imatrix, n);
fail:
    return rc;
}

static int work(struct job *j, const char *model, const char *folder,
                struct iv_quantize_result *out, struct err *e)
{
    int rc;
    struct quant_list language = {0}, vision = {0};
    bool merge = j->o->format && strcmp(j->o->format, "safetensors") == 0;
    if (!merge && j->o->format && strcmp(j->o->format, "gguf") != 0)
        TRY(err_set(e, ERR_USAGE, "format \"%s\": expected gguf or safetensors", j->o->format));
    TRY(choose_mixes(j, e));
    TRY(read_rules(j, e));
    if (merge) {
        TRY(merge_all(j, model, folder, out, e));
        return 0;
    }
    TRY(open_source(j, model, e));
    TRY(quant_list_language(&language, &j->model, j->mix, j->rule, j->n_rule, e));
    TRY(quant_list_vision(&vision, &j->model, j->vision_mix, j->rule, j->n_rule, e));
    if (j->o->imatrix)
        TRY(weigh(j, &language, &vision, e));
    j->progress.total = quant_list_bytes(&language) + quant_list_bytes(&vision);
    out->source_bytes = j->progress.total;
    TRY(make_folder(folder, e));
    TRY(path_make(&out->language, e, "%s/%s-%s.gguf", folder, j->name, j->mix->name));
    TRY(path_make(&out->vision, e, "%s/mmproj-%s-%s.gguf", folder, j->name, j->mix->name));
    TRY(write_language(j, &language, out->language, e));
    j->progress.vision = true;
    TRY(write_vision(j, &vision, out->vision, e));
    TRY(file_bytes(out->language, &out->language_bytes, e));
    TRY(file_bytes(out->vision, &out->vision_bytes, e));
fail:
    quant_list_free(&language);
    quant_list_free(&vision);
    return rc;
}

static void job_free(struct job *j)
{
    for (size_t i = 0; i < j->n_rule; i++)
        regfree(&j->rule[i].regex);
    mem_free(j->rule);
    imatrix_close(&j->imatrix);
    mem_free(j->folder);
    model_close(&j->model);
    pool_close(j->pool);
}

int iv_quantize(const char *model, const char *folder, const struct iv_quantize_options *o,
                struct iv_quantize_result *out, struct iv_error *error)
{
    struct err e = {0};
    struct job j = {.o = o, .hooks = callback_hooks(&o->callbacks)};
    char shipped[SHIPPED_PATH];
    int rc = 0;
    memset(out, 0, sizeof *out);
    j.progress.hooks = &j.hooks;
    j.progress.report = o;
    if (o->n_threads < 0)
        TRY(err_set(&e, ERR_USAGE, "threads: %d", o->n_threads));
    if (!model)
        TRY(shipped_find(shipped, &e));
    TRY(work(&j, model ? model : shipped, folder, out, &e));
fail:
    job_free(&j);
    if (rc != 0)
        iv_quantize_result_free(out);
    return status_out(rc, &e, error);
}

void iv_quantize_result_free(struct iv_quantize_result *r)
{
    if (!r)
        return;
    mem_free(r->language);
    mem_free(r->vision);
    memset(r, 0, sizeof *r);
}

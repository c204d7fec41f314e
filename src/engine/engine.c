// SPDX-License-Identifier: MIT
// Opens a model for use: configuration, weights, tokenizers, kernels, threads. Everything here is
// read-only afterwards, so sessions on any thread share it.
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/size.h"
#include "engine/batch.h"
#include "engine/gate.h"
#include "engine/gguf_pair.h"
#include "engine/identity.h"
#include "engine/observer.h"
#include "engine/prefixes.h"
#include "engine/shipped.h"
#include "engine/weights_copy.h"
#include "hub/hubcache.h"
#include "hub/repo_name.h"
#include "hub/snapshot.h"
#include "ops/op_profile.h"

struct iv_engine_options iv_engine_options_default(void)
{
    return (struct iv_engine_options){.cache_mib = 4096, .cache_dir_mib = 16384};
}

struct ops_options engine_ops_options(const iv_engine *engine, const struct hooks *hooks)
{
    return (struct ops_options){.pool = engine->pool,
                                .kernels = &engine->kernels,
                                .compute = engine->compute,
                                .hooks = hooks,
                                .watch = observer_watch(engine->observer)};
}

static const char *const compute_names[] = {
    [COMPUTE_F32] = "f32", [COMPUTE_BF16] = "bf16", [COMPUTE_INT8] = "int8"};

static int choose_compute(const char *dtype, enum compute *out, struct err *e)
{
    *out = COMPUTE_BF16;
    for (unsigned c = 0; dtype && c < sizeof compute_names / sizeof *compute_names; c++)
        if (!strcmp(dtype, compute_names[c])) {
            *out = (enum compute)c;
            return 0;
        }
    if (dtype)
        return err_set(e, ERR_USAGE, "dtype \"%s\": expected f32, bf16 or int8", dtype);
    return 0;
}

static int choose_cache_type(const char *option, const char *name, enum dtype *t, struct err *e)
{
    if (!name || kv_type_from_name(name, strlen(name), t))
        return 0;
    return err_set(e, ERR_USAGE, "%s \"%s\": expected f32, bf16, f16 or q8_0", option, name);
}

// Before any work; whether heads are whole blocks shows when the model is known.
static int choose_cache_types(iv_engine *g, const struct iv_engine_options *o, struct err *e)
{
    int rc;
    g->kv_types = kv_types_of(g->compute);
    TRY(choose_cache_type("cache-type-k", o->cache_type_k, &g->kv_types.k, e));
    TRY(choose_cache_type("cache-type-v", o->cache_type_v, &g->kv_types.v, e));
fail:
    return rc;
}

static int check_cache_types(const iv_engine *g, struct err *e)
{
    size_t block = max_size(dtype_block(g->kv_types.k), dtype_block(g->kv_types.v));
    if (g->tokenizer_only || g->config.llm.d_head % block == 0)
        return 0;
    return err_set(e, ERR_USAGE,
                   "cache type q8_0: the heads of this model have %zu values, no multiple of %zu",
                   g->config.llm.d_head, block);
}

size_t engine_lora_bytes(const iv_engine *g)
{
    bool rounds = !g->tokenizer_only && !g->gpu && g->compute != COMPUTE_F32;
    return rounds && !g->kernels.bf16.repacks ? lora_bf16_bytes(&g->model.llm) : 0;
}

int engine_check_computes(const iv_engine *g, struct err *e)
{
    if (g->tokenizer_only)
        return err_set(e, ERR_USAGE, "the engine was opened without weights");
    if (g->plan_only)
        return err_set(e, ERR_USAGE, "the engine was opened for plans only");
    return 0;
}

int engine_choose_tiers(const char *name, unsigned *tiers, struct err *e)
{
    enum cpu_tier highest;
    *tiers = cpu_detect();
    if (!name) {
        *tiers = cpu_usual(*tiers);
        return 0;
    }
    if (!cpu_tier_from_name(name, &highest))
        return err_set(e, ERR_USAGE, "cpu \"%s\": unknown kernel tier", name);
    if (!cpu_tier_built(highest))
        return err_set(e, ERR_USAGE,
                       "cpu \"%s\": this build is without oneDNN (cmake -DIV_ONEDNN=ON has it)",
                       name);
    if (!(*tiers & (1u << highest)))
        return err_set(e, ERR_USAGE, "cpu \"%s\": this processor does not have that tier", name);
    *tiers = cpu_mask(*tiers, highest);
    return 0;
}

// Whether model is a name of the hub with a type behind it: a file of its snapshot.
static bool names_type(const char *model)
{
    return access(model, F_OK) != 0 && repo_name_is(model) && strchr(model, ':');
}

// What `model` names: itself, or a snapshot of the hub's cache or a file in it. *folder is the caller's.
static int find_folder(const char *model, bool weights, char **folder, struct err *e)
{
    *folder = NULL;
    if (names_type(model))
        return snapshot_find_type(model, NULL, folder, e);
    if (access(model, F_OK) != 0 &&
        repo_name_is(model)) // a file of that name is no name of the hub
        return snapshot_find(model, NULL, weights, folder, e);
    return path_make(folder, e, "%s", model);
}

// Last path component without trailing slashes; of a hub name without its revision.
static void copy_name(char *out, size_t cap, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    snprintf(out, cap, "%.*s", (int)(n - from > 255 ? 255 : n - from), path + from);
    if (access(path, F_OK) != 0 && repo_name_is(path))
        out[strcspn(out, "@")] = 0;
}

static int apply_variant(struct model_config *c, const char *variant, struct err *e)
{
    enum variant v;
    if (!variant)
        return 0;
    if (!variant_from_name(variant, &v))
        return err_set(e, ERR_USAGE, "variant \"%s\": expected 8b, hd, f16 or internlm", variant);
    if ((v == VARIANT_INTERNLM) != (c->llm.kind == LLM_INTERNLM2))
        return err_set(e, ERR_USAGE, "variant \"%s\": the model's language part is %s", variant,
                       c->llm.kind == LLM_INTERNLM2 ? "InternLM2" : "Mistral");
    config_set_variant(c, v);
    return 0;
}

static int check_text(const iv_engine *g, const char *dir, struct err *e)
{
    if (tokenizer_size(g->tokenizer) > g->config.llm.n_vocab)
        return err_set(e, ERR_MODEL, "%s: the tokenizer has %zu pieces, the model %zu rows", dir,
                       tokenizer_size(g->tokenizer), g->config.llm.n_vocab);
    if (!g->config.text_only && wordpiece_size(g->wordpiece) > g->config.qformer.n_vocab)
        return err_set(e, ERR_MODEL,
                       "%s: the Q-Former's vocabulary has %zu entries, the model %zu rows", dir,
                       wordpiece_size(g->wordpiece), g->config.qformer.n_vocab);
    return 0;
}

// What is no folder of a snapshot, told by what it is instead.
static int check_folder(const char *dir, struct err *e)
{
    int rc = 0;
    struct stat st;
    char *config = NULL, *language = NULL;
    if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        return err_set(e, ERR_MODEL, "%s: neither a model's folder nor a .gguf file", dir);
    TRY(path_make(&config, e, "%s/config.json", dir));
    if (access(config, F_OK) != 0)
        gguf_pair_suggest(dir, &language);
    if (language)
        rc = err_set(e, ERR_MODEL, "%s: a folder of GGUF files; name one of them: %s", dir,
                     language);
fail:
    mem_free(config);
    mem_free(language);
    return rc;
}

static int open_folder(iv_engine *g, const char *dir, struct err *e)
{
    int rc;
    TRY(check_folder(dir, e));
    if (g->tokenizer_only) {
        TRY(config_load(&g->config, dir, e));
    } else {
        TRY(model_open(&g->model, dir, e));
        g->config = g->model.config;
    }
    TRY(tokenizer_open(
        dir, g->config.llm.kind == LLM_INTERNLM2 ? TOKENIZER_INTERNLM2 : TOKENIZER_MISTRAL,
        &g->tokenizer, e));
    TRY(wordpiece_open(dir, &g->wordpiece, e));
fail:
    return rc;
}

static int open_gguf(iv_engine *g, const char *path, const char *mmproj, struct err *e)
{
    int rc;
    char *vision = NULL;
    bool is_vision;
    struct gguf_file file[2] = {0};
    TRY(gguf_open(&file[0], path, e));
    TRY(gguf_kind(&file[0], &is_vision, e)); // first: what it is not must not be missed beside it
    if (is_vision)
        TRY(err_set(e, ERR_MODEL, "%s: a vision file; name the language file", path));
    TRY(gguf_pair_find(path, mmproj, &vision, e));
    if (g->tokenizer_only) {
        if (vision)
            TRY(gguf_open(&file[1], vision, e));
        TRY(gguf_config(&g->config, &file[0], vision ? &file[1] : NULL, e));
        TRY(gguf_pair_text(&file[0], vision ? &file[1] : NULL, &g->config, &g->tokenizer,
                           &g->wordpiece, e));
    } else {
        TRY(model_open_gguf(&g->model, path, vision, e));
        g->config = g->model.config;
        const struct weights *w = g->model.weights;
        TRY(gguf_pair_text(weights_gguf(w, 0), weights_gguf(w, 1), &g->config, &g->tokenizer,
                           &g->wordpiece, e));
    }
    if (!vision)
        log_line(&g->hooks, LOG_INFO, "%s: no vision file beside it, text only", path);
fail:
    gguf_close(&file[0]);
    gguf_close(&file[1]);
    mem_free(vision);
    return rc;
}

static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return gguf_is(path) || (n > 5 && strcmp(path + n - 5, ".gguf") == 0);
}

static void fill_info(iv_engine *g)
{
    const struct model_config *c = &g->config;
    struct iv_engine_info *i = &g->info;
    i->name = g->name;
    i->variant = variant_name(c->variant);
    i->family = c->llm.kind == LLM_INTERNLM2 ? "internlm2" : "mistral";
    i->dtype = compute_names[g->compute];
    i->cache_type_k = kv_type_name(g->kv_types.k);
    i->cache_type_v = kv_type_name(g->kv_types.v);
    i->device = g->device;
    i->cpu = cpu_tier_name(g->kernels.tier);
    i->n_threads = (int)pool_threads(g->pool);
    i->vit_d_model = c->vit.d_model;
    i->vit_n_layer = c->vit.n_layer;
    i->vit_n_head = c->vit.n_head;
    i->vit_patch = c->vit.patch;
    i->vit_n_frame = g->model.vit.n_frame_pos;
    i->qformer_d_model = c->qformer.d_model;
    i->qformer_n_layer = c->qformer.n_layer;
    i->qformer_n_head = c->qformer.n_head;
    i->n_query = c->qformer.n_query;
    i->llm_d_model = c->llm.d_model;
    i->llm_n_layer = c->llm.n_layer;
    i->llm_n_head = c->llm.n_head;
    i->llm_n_kv = c->llm.n_kv;
    i->llm_d_head = c->llm.d_head;
    i->llm_d_ffn = c->llm.d_ffn;
    i->llm_n_vocab = c->llm.n_vocab;
    i->llm_n_ctx_max = c->llm.n_ctx_max;
    i->lora_r = c->llm.lora_r;
    i->default_n_frame = c->n_frame;
    const struct weights *w = g->model.weights;
    i->n_tensor = w ? weights_count(w) : 0;
    for (size_t t = 0; t < i->n_tensor; t++) {
        const struct tensor *x = weights_at(w, t);
        i->n_param += x->bytes / dtype_block_bytes(x->dtype) * dtype_block(x->dtype);
    }
    i->n_file = w ? weights_file_count(w) : 0;
    i->file_bytes = w ? weights_file_bytes(w) : 0;
}

static int open_cache(iv_engine *g, const struct iv_engine_options *o, struct err *e)
{
    enum { MIB_MAX = 1 << 24 };
    if (o->cache_mib > MIB_MAX || o->cache_dir_mib > MIB_MAX)
        return err_set(e, ERR_USAGE, "cache: %llu and %llu MiB, at most %d are possible",
                       (unsigned long long)o->cache_mib, (unsigned long long)o->cache_dir_mib,
                       (int)MIB_MAX);
    struct cache_options c = {.bytes = o->cache_mib << 20,
                              .dir = o->tokenizer_only ? NULL : o->cache_dir,
                              .dir_bytes = o->cache_dir_mib << 20,
                              .hooks = &g->hooks};
    return cache_open(&c, &g->cache, e);
}

// Of a model whose matrices can be quantised. A GPU's inputs are not to be seen.
static int open_observer(iv_engine *g, struct err *e)
{
    if (g->gguf || g->tokenizer_only)
        return err_set(e, ERR_MODEL, "%s: an importance matrix is of an unquantised model's folder",
                       g->name);
    return observer_open(&g->observer, e);
}

int iv_engine_open(const struct iv_engine_options *opt, iv_engine **out, struct iv_error *error)
{
    struct err e = {0};
    unsigned tiers;
    bool copied = false;
    const char *dir = opt->model;
    char shipped[SHIPPED_PATH], *folder = NULL;
    int rc;
    double start = clock_ms();
    *out = NULL;
    iv_engine *g = mem_calloc(1, sizeof *g);
    if (!g)
        return status_out(err_set(&e, ERR_LIMIT, "out of memory"), &e, error);
    g->callbacks = opt->callbacks;
    g->tokenizer_only = opt->tokenizer_only;
    g->plan_only = opt->plan_only;
    g->hooks = callback_hooks(&g->callbacks);
    if (dir && !*dir)
        TRY(err_set(&e, ERR_USAGE, "the model's path is empty"));
    TRY(engine_check_device(opt->device, opt->plan_only, &e));
    TRY(choose_compute(opt->dtype, &g->compute, &e));
    TRY(choose_cache_types(g, opt, &e));
    TRY(weights_copy_wanted(opt->weights, &copied, &e));
    TRY(engine_choose_tiers(opt->cpu, &tiers, &e));
    if (opt->n_threads < 0)
        TRY(err_set(&e, ERR_USAGE, "threads: %d", opt->n_threads));
    if (!dir) {
        TRY(shipped_find(shipped, &e));
        dir = shipped;
        log_line(&g->hooks, LOG_INFO, "no model given: %s", dir);
    }
    TRY(find_folder(dir, !opt->tokenizer_only, &folder, &e));
    copy_name(g->name, sizeof g->name, names_type(dir) ? folder : dir);
    kernels_init(&g->kernels, tiers);
    TRY(pool_open((unsigned)opt->n_threads, &g->pool, &e));
    TRY(identity_open(&g->identity, &e));
    TRY(open_cache(g, opt, &e));
    g->gguf = is_gguf(folder);
    if (g->gguf)
        TRY(open_gguf(g, folder, opt->mmproj, &e));
    else if (opt->mmproj)
        TRY(err_set(&e, ERR_USAGE, "mmproj %s: only a language model's .gguf file takes one",
                    opt->mmproj));
    else
        TRY(open_folder(g, folder, &e));
    TRY(check_text(g, folder, &e));
    if (!g->tokenizer_only) {
        g->prefetch = prefetch_open(&g->model);
        log_line(&g->hooks, LOG_INFO, "%s: %zu tensors in %zu files mapped", g->name,
                 weights_count(g->model.weights), weights_file_count(g->model.weights));
    }
    TRY(apply_variant(&g->config, opt->variant, &e));
    TRY(check_cache_types(g, &e));
    if (opt->gather_imatrix)
        TRY(open_observer(g, &e));
    TRY(engine_open_device(g, opt->device, opt->gpu_weights, &e));
    TRY(engine_place_weights(g, &e));
    if (!g->plan_only && engine_lora_bytes(g) > 0)
        TRY(lora_bf16_open(&g->model.llm, &g->kernels, g->pool, &g->hooks, &g->lora, &e));
    if (copied)
        TRY(weights_copy(g, &e));
    if (opt->profile && g->gpu)
        TRY(err_set(&e, ERR_USAGE, "profile: only on the CPU; device cpu asks for it"));
    if (opt->profile)
        TRY(op_profile_open(&g->profile, &e));
    if (!g->tokenizer_only) {
        TRY(batch_open(g, &g->batch, &e));
        TRY(prefixes_open(&g->prefixes, &e));
        if (!g->gpu) // a GPU itself divides its time among streams
            TRY(gate_open(&g->gate, &e));
    }
    if (hooks_abort(&g->hooks))
        TRY(err_set(&e, ERR_ABORT, "stopped while the model was opened"));
    fill_info(g);
    g->info.load_ms = clock_ms() - start;
    mem_free(folder);
    *out = g;
    return IV_OK;
fail:
    mem_free(folder);
    iv_engine_close(g);
    return status_out(rc, &e, error);
}

void iv_engine_close(iv_engine *g)
{
    if (!g)
        return;
    batch_close(g->batch);
    gate_close(g->gate);
    prefixes_close(g->prefixes);
    prefetch_close(g->prefetch);
    op_profile_close(g->profile);
    cache_close(g->cache);
    gpu_close(g->gpu);
    identity_close(g->identity);
    observer_close(g->observer);
    model_close(&g->model);
    lora_bf16_close(&g->lora);
    tokenizer_close(g->tokenizer);
    wordpiece_close(g->wordpiece);
    pool_close(g->pool);
    mem_free(g);
}

const struct iv_engine_info *iv_engine_info(const iv_engine *g)
{
    return &g->info;
}

void iv_free(void *p)
{
    mem_free(p);
}

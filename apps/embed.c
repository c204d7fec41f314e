// SPDX-License-Identifier: MIT
// `ivchat embed`: the features of one stage, as a file.
//
//   open engine and media -> iv_media_stage -> .npy or .safetensors, by the name's ending
//
// The file appears whole or not at all (savefile.c). The safetensors file holds one tensor named
// after the stage, and metadata that say where it comes from.
//
// Easy to get wrong: whether the output can be made is checked before the model is loaded, since loading
// may take minutes and encoding hours; the features belong to the library and go back with iv_free.

#include <stdio.h>
#include <string.h>

#include "heap.h"
#include "jsontext.h"
#include "npy_save.h"
#include "savefile.h"
#include "stfile.h"
#include "work.h"

struct features {
    float *data;
    size_t dim[6];
    unsigned n_dim;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

static int check(struct work *w)
{
    const struct settings *s = w->s;
    if (!s->video && s->image.n == 0)
        return app_error(&w->error, IV_ERR_USAGE,
                         "no media given: use --video FILE or --image FILE");
    if (!s->output)
        return app_error(&w->error, IV_ERR_USAGE, "no output given: use -o FILE");
    if (!ends_with(s->output, ".npy") && !ends_with(s->output, ".safetensors"))
        return app_error(&w->error, IV_ERR_USAGE,
                         "--output: expected a name that ends in .npy or .safetensors, got \"%s\"",
                         s->output);
    bool reads_text = strcmp(s->stage, "qformer") == 0 || strcmp(s->stage, "projected") == 0;
    if (s->instruction && !reads_text)
        console_warn(w->con, "--instruction has no effect on stage %s", s->stage);
    int rc = work_check(w);
    return rc == IV_OK ? savefile_check(s->output, &w->error) : rc;
}

static int compute(struct work *w, struct features *f)
{
    static const char *const names[] = {"pixels", "vit", "qformer", "projected"};
    static const enum iv_stage stages[] = {IV_STAGE_PIXELS, IV_STAGE_VIT, IV_STAGE_QFORMER,
                                           IV_STAGE_PROJECTED};
    size_t i = 0;
    if (w->s->instruction && strcmp(iv_engine_info(w->engine)->variant, "8b") == 0)
        console_warn(w->con, "--instruction has no effect with variant 8b");
    while (i < 3 && strcmp(names[i], w->s->stage) != 0)
        i++;
    return iv_media_stage(w->media, stages[i], w->s->instruction, &f->data, f->dim, &f->n_dim,
                          &w->error);
}

static int save(struct work *w, const struct features *f)
{
    const char *path = w->s->output;
    if (ends_with(path, ".npy"))
        return npy_save(path, "f32", f->data, f->dim, f->n_dim, true, &w->error);

    const struct iv_engine_info *info = iv_engine_info(w->engine);
    const struct iv_media_info *m = iv_media_info(w->media);
    char frames[4096] = "";
    size_t n = 0;
    for (size_t i = 0; i < m->n_frame && n + 16 < sizeof frames; i++)
        n += (size_t)snprintf(frames + n, sizeof frames - n, "%s%d", i ? " " : "",
                              (int)m->frame_index[i]);
    const struct stfile_note notes[] = {
        {"stage", w->s->stage},
        {"model", info->name},
        {"variant", info->variant},
        {"type", info->dtype},
        {"media", m->path},
        {"sha256", m->sha256},
        {"frame_indices", frames},
        {"instruction", w->s->instruction},
        {"ivchat_version", iv_version()},
    };
    return stfile_save(path, w->s->stage, f->data, f->dim, f->n_dim, notes,
                       sizeof notes / sizeof *notes, &w->error);
}

static int tell(struct work *w, const struct features *f)
{
    char shape[160];
    size_t n = 0;
    for (unsigned i = 0; i < f->n_dim; i++)
        n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%zu", i ? "," : "", f->dim[i]);
    if (!w->s->json) {
        console_say(w->con, "%s: %s f32 [%s]", w->s->output, w->s->stage, shape);
        return IV_OK;
    }
    const struct iv_engine_info *info = iv_engine_info(w->engine);
    const struct iv_media_info *m = iv_media_info(w->media);
    struct json_writer json;
    jw_begin(&json);
    jw_text(&json, "output", w->s->output);
    jw_text(&json, "stage", w->s->stage);
    jw_text(&json, "dtype", "f32");
    jw_array(&json, "shape");
    for (unsigned i = 0; i < f->n_dim; i++)
        jw_count(&json, NULL, f->dim[i]);
    jw_end(&json);
    work_media_json(w, &json, "video");
    jw_object(&json, "timings");
    jw_ms(&json, "load_ms", info->load_ms);
    jw_ms(&json, "decode_video_ms", m->decode_ms);
    jw_ms(&json, "preprocess_ms", m->preprocess_ms);
    jw_ms(&json, "vision_ms", m->vision_ms);
    jw_ms(&json, "qformer_ms", m->qformer_ms);
    jw_end(&json);
    jw_object(&json, "model");
    jw_text(&json, "name", info->name);
    jw_text(&json, "variant", info->variant);
    jw_text(&json, "type", info->dtype);
    jw_end(&json);
    jw_text(&json, "version", iv_version());
    char *line = jw_take(&json);
    if (!line)
        return app_error(&w->error, IV_ERR_LIMIT, "out of memory for the JSON line");
    bool ok = console_write(w->con, line, strlen(line)) && console_write(w->con, "\n", 1);
    heap_free(line);
    return ok ? IV_OK : app_error(&w->error, IV_ERR_FAIL, "standard output is closed");
}

int embed_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct work w = {.verb = verb, .s = s, .con = con};
    struct features f = {0};
    int rc = check(&w);
    if (rc == IV_OK)
        rc = work_open(&w, false);
    if (rc == IV_OK)
        rc = work_media(&w);
    if (rc == IV_OK)
        rc = compute(&w, &f);
    if (rc == IV_OK)
        rc = save(&w, &f);
    if (rc == IV_OK)
        rc = tell(&w, &f);
    int exit_code = rc == IV_OK ? 0 : work_fail(&w, rc);
    iv_free(f.data);
    work_close(&w);
    return exit_code;
}

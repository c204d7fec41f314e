// SPDX-License-Identifier: MIT
// What the public handles are made of. Only files of engine/ include this.
#ifndef IV_ENGINE_ENGINE_H
#define IV_ENGINE_ENGINE_H

#include <pthread.h>

#include "base/pool.h"
#include "chat/template.h"
#include "engine/prefetch.h"
#include "engine/status.h"
#include "ivchat.h"
#include "kernels/kernels.h"
#include "base/sha256.h"
#include "media/clips.h"
#include "model/model.h"
#include "text/tokenizer.h"
#include "text/wordpiece.h"

struct iv_engine {
    bool tokenizer_only;
    struct model model;         // empty when tokenizer_only
    struct model_config config; // with the caller's variant
    struct tokenizer *tokenizer;
    struct wordpiece *wordpiece;
    struct pool *pool;
    struct prefetch *prefetch; // NULL = weights are read when they are used
    struct kernels kernels;
    enum compute compute;
    uint64_t cache_mib;
    struct iv_callbacks callbacks;
    char name[256];
    struct iv_engine_info info;
};

// Options for an ops of this engine; hooks must outlive it.
struct ops_options engine_ops_options(const iv_engine *engine, const struct hooks *hooks);

// One video or set of images. pixels are kept; encoded stages are made on demand under lock.
struct iv_media {
    const iv_engine *engine;
    struct iv_callbacks callbacks;
    struct iv_media_info info; // strings and arrays owned here
    char *path, *time_text;
    char sha256[SHA256_TEXT];
    int32_t *frame_index;
    double *frame_s;
    const float *pixels; // f32 [n_clip, n_frame, 3, size, size]: of clips, or given
    struct clips clips;
    float *given;

    pthread_mutex_t lock; // guards what follows and the times in info
    float *vit;           // f32 [n_clip * n_tok, d_vit], after vision_layernorm
    float *queries;       // f32 [n_clip * n_query, d_qformer], for `instruction`
    float *rows;          // f32 [n_clip * n_query, d_llm], for `instruction`
    char *instruction;    // NULL = none
};

enum { MEDIA_CLIP_MAX = 4096 }; // clips of one media object

// Tiles, clips and bytes for these options; width or height 0 = unknown.
int media_clips_plan(const iv_engine *engine, const struct iv_media_options *o, size_t n_frame,
                     size_t width, size_t height, struct clips_plan *out, struct err *e);

// Takes media->lock. Another session may hold it while it encodes, for minutes: polls cb's abort meanwhile.
int media_lock(iv_media *media, const struct iv_callbacks *cb, struct err *e);
// Makes rows (and what they need) for this instruction, NULL = none, if they are not there. The Q-Former
// reads an instruction only in the variants that send it (SPEC 5.3). cb: progress, abort, stages. The times
// of what was done now are added to *vision_ms and *qformer_ms (0 when all was there).
// Caller holds media->lock.
int media_encode(iv_media *media, const char *instruction, const struct iv_callbacks *cb,
                 double *vision_ms, double *qformer_ms, struct err *e);
// Drops everything encoded. Caller holds media->lock.
void media_forget(iv_media *media);
// Scratch arena that encoding n_clip clips of n_frame frames with n_text instruction ids takes, and the
// arithmetic; nothing is run.
int media_encode_plan(const iv_engine *engine, size_t n_clip, size_t n_frame, size_t n_text,
                      struct ops_plan *vision, struct ops_plan *qformer, struct err *e);

#endif

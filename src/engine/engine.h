// SPDX-License-Identifier: MIT
// What the public handles are made of. Only files of engine/ include this.
#ifndef IV_ENGINE_ENGINE_H
#define IV_ENGINE_ENGINE_H

#include <pthread.h>

#include "base/pool.h"
#include "chat/template.h"
#include "engine/cache.h"
#include "engine/frame_batch.h"
#include "engine/lora_bf16.h"
#include "engine/prefetch.h"
#include "engine/shared_rows.h"
#include "engine/status.h"
#include "gpu/gpu.h"
#include "ivchat.h"
#include "kernels/kernels.h"
#include "base/sha256.h"
#include "media/clips.h"
#include "model/model.h"
#include "text/tokenizer.h"
#include "text/wordpiece.h"

struct batch;
struct gate;
struct op_profile; // ops/op_profile.h
struct prefixes;

struct iv_engine {
    bool tokenizer_only, plan_only;
    struct model model;         // empty when tokenizer_only
    struct lora_bf16 lora;      // of model, on a CPU that computes in bf16 or int8
    struct model_config config; // with the caller's variant
    struct tokenizer *tokenizer;
    struct wordpiece *wordpiece;
    struct pool *pool;
    struct prefetch *prefetch; // NULL = weights are read when they are used
    struct kernels kernels;
    enum compute compute;
    struct kv_types kv_types;
    bool gguf;                      // the model is of GGUF files
    struct op_profile *profile;     // NULL = off
    struct gpu *gpu;                // NULL = everything runs on the CPU
    struct gpu_options gpu_options; // of gpu
    bool gpu_must;                  // the caller asked for it by name
    char gpu_name[16],
        gpu_lacks
            [256]; // plan_only: "cuda:0" and why it is not there; gpu then only plans, or is NULL
    struct cache *cache; // has its own lock, as have identity and the three below it
    struct identity *identity;
    struct batch *batch;       // steps of several conversations; NULL = each decodes by itself
    struct gate *gate;         // long passes take turns; NULL = they do not
    struct prefixes *prefixes; // beginnings of prompts that others may take; NULL = none
    struct observer *observer; // NULL = nothing is gathered; has its own lock
    struct hooks hooks;        // of callbacks
    struct iv_callbacks callbacks;
    char name[256];
    char device[160]; // "cpu", "cuda:0 (NVIDIA H200)"
    char tier[160];   // what computes, as far as bits depend on it: "avx2", "NVIDIA H200 plain"
    struct iv_engine_info info;
};

// Options for an ops of this engine; hooks must outlive it.
struct ops_options engine_ops_options(const iv_engine *engine, const struct hooks *hooks);
// The kernel tiers up to the one called name (NULL = all that the processor has). ERR_USAGE for another's.
int engine_choose_tiers(const char *name, unsigned *tiers, struct err *e);
// A stream of work on the engine's device, and one that counts what such a stream would take.
int engine_open_ops(const iv_engine *engine, const struct hooks *hooks, struct ops **out,
                    struct err *e);
int engine_open_plan(const iv_engine *engine, const struct hooks *hooks, struct ops **out,
                     struct err *e);
// ERR_USAGE when `device` is no device's name or (but for plans) not to be had here. Before anything else is opened.
int engine_check_device(const char *device, bool plan_only, struct err *e);
// Opens the GPU that `device` asks for; with "auto" none is no failure. Before weights are there.
// weights NULL = plain (gpu.h). The model is bound by then, or tokenizer_only.
int engine_open_device(iv_engine *engine, const char *device, const char *weights, struct err *e);
// Brings every weight to the GPU, if there is one, so that the first question does not wait for them. ERR_LIMIT when
// the device has too little memory for them and a question about a clip; with "auto" the CPU computes then. An engine
// for plans brings none: with "auto" it plans for what would compute, else for what was asked for.
int engine_place_weights(iv_engine *engine, struct err *e);
// Whether any of the language model's weights are in blocks: then none can be quantised on their way to a GPU.
bool engine_in_blocks(const iv_engine *engine);
// The forward passes as a stream that places weights sees them: shapes without memory.
int engine_name_weights(const iv_engine *engine, struct ops *o, struct err *e);
// Bytes of LoRA pairs that an engine for plans would copy as bf16; of an open one, those that it has not copied.
size_t engine_lora_bytes(const iv_engine *engine);
// ERR_USAGE when the engine was opened for less than computing.
int engine_check_computes(const iv_engine *engine, struct err *e);

// device_plan.c: memory of the engine's GPU.
struct device_turn {
    size_t n_clip, n_frame; // encoded together; 0 clips = none
    size_t n_prompt, n_pos; // of the prompt, and with the answer
    size_t n_beam;
};
struct device_plan {
    size_t weights[GPU_MEM_N]; // those below GPU_MEM_WEIGHTS
    size_t load;               // most while they are brought
    size_t kv, scratch, streams, pinned;
    size_t peak; // of everything, loading or in the turn
};
int engine_device_plan(const iv_engine *engine, const struct device_turn *t,
                       struct device_plan *out, struct err *e);
// Bytes that the device has for this engine: free ones, and those that it holds already.
size_t engine_device_room(const iv_engine *engine);
// ERR_LIMIT when that is less than a question about a clip needs; tells what would fit.
int engine_check_room(const iv_engine *engine, struct err *e);

struct identity;
struct video;

// One video or set of images. Pixels are kept, those of a video cut in segments are decoded when they are
// encoded; encoded stages are made on demand under lock.
struct iv_media {
    const iv_engine *engine;
    struct iv_callbacks callbacks;
    struct iv_media_info info; // strings and arrays owned here
    char *path, *time_text;
    char sha256[SHA256_TEXT];
    int32_t *frame_index;
    double *frame_s, *segment_s;
    size_t clip_frames; // frames of a clip
    size_t part_clips;  // clips that are encoded together: all, or those of a segment
    size_t n_part;      // 1, or the segments
    const float
        *pixels; // f32 [n_clip, clip_frames, 3, size, size]: of clips, or given; NULL with segments
    struct clips clips;
    float *given;
    struct clips_options options;
    bool restored; // from a file: rows only

    pthread_mutex_t lock;          // guards what follows and the times in info
    struct video *video;           // of segments
    struct iv_callbacks decode_cb; // of video: those of the call that encodes
    uint8_t content[SHA256_BYTES]; // names the media's bytes, once known
    bool content_known, content_of_pixels;
    float *vit;     // f32 [n_clip * n_tok, d_vit], after vision_layernorm; not with segments
    float *queries; // f32 [n_clip * n_query, d_qformer], for `instruction`; may lack
    struct shared_rows *rows; // [n_clip * n_query, d_llm], for `instruction`
    char *instruction;        // NULL = none
};

enum { MEDIA_CLIP_MAX = 4096 }; // clips of one media object without segments

// Tiles, clips and bytes for these options; width or height 0 = unknown.
int media_clips_plan(const iv_engine *engine, const struct iv_media_options *o, size_t n_frame,
                     size_t width, size_t height, struct clips_plan *out, struct err *e);
// Preprocessing for the engine's variant.
struct clips_options media_clip_options(const iv_engine *engine, const struct iv_media_options *o);
int media_check_options(const struct iv_media_options *o, struct err *e);
// The media's bytes have this SHA-256 (of several files: the text of each, one after the other).
int media_content(iv_media *m, const char *texts, struct err *e);
int media_new(const iv_engine *engine, const struct iv_callbacks *cb, iv_media **out,
              struct err *e);
int media_set_path(iv_media *m, const char *path, struct err *e);
// Frame numbers [n] (NULL = 0, 1, 2 ...), their times and the time sentence; fps <= 0 = unknown.
int media_set_frames(iv_media *m, const int32_t *index, size_t n, double fps, struct err *e);
// Takes c over.
void media_take_clips(iv_media *m, struct clips *c);
// Decodes n frames of v into new pixels, *ms being the time of the preprocessing; clips_free releases.
int media_read_clips(struct video *v, struct pool *pool, const struct clips_plan *plan,
                     const int32_t *index, size_t n, struct clips *out, double *ms, struct err *e);

// Cuts frames [first, first + n) of m's video; m->video is set.
int segments_cut(iv_media *m, const struct iv_media_options *o, size_t first, size_t n,
                 struct err *e);
// Pixels of a segment. Caller holds m->lock; m->decode_cb is set.
int segments_read(iv_media *m, size_t i, struct clips *out, double *ms, struct err *e);

// Takes media->lock. Another session may hold it while it encodes, for minutes: polls cb's abort meanwhile.
int media_lock(iv_media *media, const struct iv_callbacks *cb, struct err *e);

// What the Q-Former reads of a caller's instruction: nothing (NULL) in the variants that do not send it
// (SPEC 5.3), and an empty one is none (SPEC trap 18).
const char *media_instruction(const iv_engine *engine, const char *instruction);

struct encode_request {
    const char *instruction;       // NULL = none; read only in the variants that send it (SPEC 5.3)
    const struct iv_callbacks *cb; // progress, abort, stages
    bool use_cache;                // the engine's, if no stage is asked for
    bool vit, queries;             // these stages too, not only rows
};
struct encode_times {
    double vision_ms, qformer_ms; // of what was done now
    bool cached;                  // nothing was
};
// Makes rows (and what they need) if they are not there. Caller holds media->lock.
int media_encode(iv_media *media, const struct encode_request *r, struct encode_times *t,
                 struct err *e);
// Drops everything encoded that can be made again. Caller holds media->lock.
void media_forget(iv_media *media);
// Scratch arena that encoding n_clip clips of n_frame frames with n_text instruction ids takes, and the
// arithmetic; nothing is run.
int media_encode_plan(const iv_engine *engine, size_t n_clip, size_t n_frame, size_t n_text,
                      struct ops_plan *vision, struct ops_plan *qformer, struct err *e);

#endif

// SPDX-License-Identifier: MIT
// The small sections of a saved conversation as structs, to and from bytes (docs/FORMATS.md). Texts point
// into the bytes they were read from. Decoding checks everything that can be checked without a model.
#ifndef IV_ENGINE_SAVED_H
#define IV_ENGINE_SAVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/checkedfile.h"
#include "base/fields.h"
#include "engine/engine.h"
#include "ivchat.h"
#include "media/clips.h"

extern const struct checked_kind saved_kind;

// The limits of what is read.
enum {
    SAVED_TURNS_MAX = 1 << 16,
    SAVED_FRAMES_MAX = 1 << 24,
    SAVED_SECTION_MAX = 1 << 28, // bytes of one of these sections
};

struct saved_model {
    uint8_t identity[SHA256_BYTES];
    struct fields_text name, variant;            // of the model
    struct fields_text version, precision, tier; // KV is taken over when these are the same
    uint64_t n_query, d_model, n_layer, d_kv;    // d_kv: of a key in one layer
};

struct saved_turn {
    struct fields_text question, answer;
    bool special; // turn.answer_special
};

struct saved_talk {
    bool allow_special, time_text;
    struct fields_text instruction, msg;
    struct iv_ask_options last; // numbers only
    struct saved_turn *turn;    // [n_turn]
    size_t n_turn;
};

struct saved_media {
    bool image, of_pixels;
    struct fields_text path, sha256, time_text;
    uint8_t content[SHA256_BYTES];
    uint64_t frame_count, width, height, cols, rows, clip_frames, part_clips, n_part, n_segment;
    double fps, duration_s;
    struct clips_options options;
    int32_t *index;    // [n_part * clip_frames]
    double *frame_s;   // [n_part * clip_frames]
    double *segment_s; // [n_segment]
};

// "bf16" or "f32", how products are computed; " k TYPE v TYPE" behind it when keys and values are stored
// otherwise.
enum { SAVED_PRECISION = 32 };
void saved_precision(const iv_engine *g, char text[SAVED_PRECISION]);
// false: no such precision.
bool saved_kv_types(struct fields_text precision, struct kv_types *types);

void saved_put_model(struct buf *b, const struct saved_model *m);
void saved_put_talk(struct buf *b, const struct saved_talk *t);
void saved_put_media(struct buf *b, const struct saved_media *m);

// ERR_FAIL: name is the file, for the message. On failure nothing is held; else saved_*_free releases.
int saved_get_model(struct saved_model *m, const void *bytes, size_t n, const char *name,
                    struct err *e);
int saved_get_talk(struct saved_talk *t, const void *bytes, size_t n, const char *name,
                   struct err *e);
int saved_get_media(struct saved_media *m, const void *bytes, size_t n, const char *name,
                    struct err *e);
void saved_talk_free(struct saved_talk *t);
void saved_media_free(struct saved_media *m);

#endif

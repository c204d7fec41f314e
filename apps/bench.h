// SPDX-License-Identifier: MIT
// Parts of `ivchat bench`: what is measured, and how it is told.
#ifndef IV_APPS_BENCH_H
#define IV_APPS_BENCH_H

#include "jsontext.h"
#include "samples.h"
#include "work.h"

enum bench_stage {
    BENCH_VIDEO,      // decoding of the sampled frames
    BENCH_PREPROCESS, // frames to pixels
    BENCH_VISION,     // video transformer, one clip
    BENCH_QFORMER,    // Q-Former and projection, one clip
    BENCH_PREFILL,    // --prompt-tokens of text
    BENCH_DECODE,     // one token behind --context
    BENCH_SESSIONS,   // one token in each of --sessions conversations at once
    BENCH_FIRST,      // first turn: media, prompt and -n tokens
    BENCH_SECOND,     // second turn, to its first token
    BENCH_WARM,       // the same when its history was prefilled while nobody waited
    BENCH_STAGE_N
};

// What a part of a run has to do at least; parts come one after the other.
struct bench_part {
    double flop, bytes;
};
enum { BENCH_PARTS = 4 };

struct bench_row {
    bool wanted;
    struct samples time;
    struct bench_part part[BENCH_PARTS];
    size_t n_part;
    double tokens;                 // that a run makes or takes in; 0 = none
    struct iv_peaks before, after; // of this machine around the runs
    struct samples read;           // bytes a second around each run; none = before, after
};

// Where the time of one first turn went.
struct bench_profile {
    bool wanted;
    struct iv_profile_row *row; // iv_free
    size_t n;
    double turn_ms, media_ms; // all of it; of that opening the media
    struct iv_peaks before, after;
};

struct bench {
    struct work work;
    struct settings settings; // those of the command line, with a cache
    struct iv_peaks peaks;    // measured last
    bool any, measured;       // a stage is wanted; peaks were
    struct bench_row row[BENCH_STAGE_N];
    struct bench_profile profile;
};

extern const char *const bench_stage_name[BENCH_STAGE_N];

// Measures this machine into b->peaks, unless --no-peaks.
int bench_peaks(struct bench *b);
// Every stage that is wanted, each between two measurements of the machine. IV_OK, or an error with its message in
// b->work.error.
int bench_stages(struct bench *b);
// One text with a question of exactly n prompt tokens, the caller's (heap_free).
int bench_prompt(struct bench *b, size_t n, char **text);
// A conversation about text alone, nothing of it kept.
int bench_ask_text(struct bench *b, const char *prompt, const struct iv_ask_options *ask,
                   double *prefill_ms);
// Time of steps of one conversation behind --context, and how fast memory was read around each.
int bench_decode(struct bench *b, struct bench_row *row);
// Time of steps in which n conversations behind --context each get a token.
int bench_sessions(struct bench *b, struct bench_row *row);

// One first turn of an engine that notes where the time goes.
int bench_profile(struct bench *b);
// The video, or frames made here; *ms = time that opening it took.
int bench_media(struct bench *b, iv_media **out, double *ms);
// What products of the engine could reach at these peaks, operations a second.
double bench_product_peak(const struct bench *b, const struct iv_peaks *p);
void bench_profile_text(struct bench *b);
void bench_profile_json(struct bench *b, struct json_writer *j);

// Text, JSON or CSV on standard output.
int bench_report(struct bench *b);

#endif

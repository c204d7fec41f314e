// SPDX-License-Identifier: MIT
// From a row of logits to a token: processors (repetition penalty, minimum length, ignored ends), then
// when sampling the warpers (temperature, top-k, top-p), then argmax or a draw (SPEC 7.3).
#ifndef IV_CHAT_SAMPLER_H
#define IV_CHAT_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chat/random.h"

// Ranges are those of sampler_init's check; the names in its messages are the ones users type.
struct sampler_options {
    bool do_sample;            // false = greedy: temperature, top_p, top_k and seed are not used
    double temperature;        // > 0
    double top_p;              // (0, 1]; 1 = off
    int top_k;                 // >= 0; 0 = off
    double repetition_penalty; // > 0; 1 = off; sees generated tokens only
    int min_length;  // >= 0; an end of sequence cannot be among the first min_length tokens
    bool ignore_eos; // an end of sequence cannot come at all
    uint64_t seed;
    uint64_t stream; // which of several answers of one seed; 0 = the first
};

// Greedy; top_p 0.9, temperature 1, min_length 1, seed 0 for a caller that switches do_sample on.
struct sampler_options sampler_options_default(void);
// ERR_USAGE naming the option, its value and its range.
int sampler_options_check(const struct sampler_options *o, struct err *e);

struct sampler {
    struct sampler_options opt;
    size_t n_vocab;
    const int32_t *eos;
    size_t n_eos;
    struct random random;
    float *scores;  // [n_vocab] the row being worked on
    float *prob;    // [n_vocab]
    int32_t *order; // [n_vocab]
    bool *seen;     // [n_vocab] all false between calls
};

// Checks the options and allocates the rows; eos (borrowed, n_eos ids, those beyond the vocabulary do
// nothing) must outlive s. On failure s is zeroed. Free with sampler_free. One thread at a time.
int sampler_init(struct sampler *s, const struct sampler_options *o, size_t n_vocab,
                 const int32_t *eos, size_t n_eos, struct err *e);
void sampler_free(struct sampler *s);

bool sampler_is_eos(const struct sampler *s, int32_t id);

// In place on scores f32 [n_vocab] (logits or log-probabilities), given the n ids generated so far
// (all in [0, n_vocab)).
void sampler_process(struct sampler *s, float *scores, const int32_t *ids, size_t n);

// In place; removed tokens get -infinity, at least min_keep (1; beam search 2) stay. Scores must have
// passed logprob_check.
void sampler_warp(struct sampler *s, float *scores, size_t min_keep);

// The next token from the model's logits f32 [n_vocab] (not changed) after the n generated ids: all
// of the above. ERR_MODEL for logits that are no numbers, ERR_USAGE if the options leave no token.
// s->scores keeps the row that was chosen from until the next call.
int sampler_next(struct sampler *s, const float *logits, const int32_t *ids, size_t n, int32_t *id,
                 struct err *e);

// Draws an index in proportion to weight[n] (>= 0, not all zero) with one random number.
size_t sampler_draw(struct random *r, const float *weight, size_t n);

#endif

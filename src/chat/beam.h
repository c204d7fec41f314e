// SPDX-License-Identifier: MIT
// Beam search as a state machine without a model: logits of the running beams in, parents and tokens of
// the next beams out (SPEC 7.4).
#ifndef IV_CHAT_BEAM_H
#define IV_CHAT_BEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chat/sampler.h"
#include "text/ids.h"

enum { BEAM_MAX = 64 };

struct beam_options {
    int n_beam;            // 1..BEAM_MAX
    double length_penalty; // [-10, 10]; score = sum of log-probabilities / n_token^length_penalty
    int max_new_tokens;    // >= 1, the end of sequence counts
};

// ERR_USAGE naming the option, its value and its range.
int beam_options_check(const struct beam_options *o, struct err *e);

struct beam_hypothesis {
    double score;
    size_t n_token; // the end of sequence included
    size_t slot;    // beam that holds the last token, or the one before an end of sequence
    int32_t eos;    // the end of sequence, -1 = cut by the length limit
};

struct beam_candidate {
    float score; // sum of log-probabilities
    int32_t token;
    size_t parent;
};

struct beam_search {
    struct beam_options opt;
    struct sampler *sampler; // processors, warpers, random numbers; do_sample selects beam sampling
    size_t n_beam;
    // The state after a step. token and parent are what the caller needs for the next one: beam i goes
    // on from timeline parent[i] with token[i].
    bool done;
    size_t n_step;  // tokens generated so far
    size_t n_live;  // beams that differ; those behind are copies of the first and are not looked at
    int32_t *token; // [n_beam]
    size_t *parent; // [n_beam]
    float *score;   // [n_live] sums of log-probabilities
    // Every step's tokens and parents, from which ids are read backwards.
    int32_t *past_token; // [n_step, n_beam]
    uint8_t *past_slot;  // [n_step, n_beam]
    size_t cap_step;
    int32_t *path;                    // [cap_step] ids of one beam
    struct beam_candidate *candidate; // [n_candidate of max_candidate] of the last step, best first
    size_t n_candidate, max_candidate;
    float *rows, *weight;               // [n_beam, n_vocab]; rows: one row unless sampling
    struct beam_hypothesis *hypothesis; // [n_hypothesis <= n_beam] in the order of storing
    size_t n_hypothesis;
};

// The sampler (its options, vocabulary, ends of sequence and random numbers) is borrowed and must outlive
// b. On failure b is zeroed. Free with beam_free. One thread at a time.
int beam_init(struct beam_search *b, const struct beam_options *o, struct sampler *sampler,
              struct err *e);
void beam_free(struct beam_search *b);

// logits: f32 [n_row, n_vocab], row i of beam i; n_row = n_beam, or 1 on the first step, where all
// beams are one. Not changed. After a failure b can only be freed.
int beam_step(struct beam_search *b, const float *logits, size_t n_row, struct err *e);

// Once done: closes the open beams if the length limit ended the search and sorts the hypotheses, best
// first; at least one. To be called once.
void beam_finish(struct beam_search *b);

// Appends the ids of a hypothesis.
int beam_ids(const struct beam_search *b, const struct beam_hypothesis *h, struct ids *out,
             struct err *e);

#endif

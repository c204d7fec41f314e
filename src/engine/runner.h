// SPDX-License-Identifier: MIT
// Runs the language model for one conversation: owns its ops and KV caches, prefills prompts in chunks,
// steps one sequence or several beams. One thread.
#ifndef IV_ENGINE_RUNNER_H
#define IV_ENGINE_RUNNER_H

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/prefixes.h"

enum { RUNNER_MAX_BEAM = 64 };

struct runner {
    const iv_engine *engine;
    struct hooks hooks;
    struct ops *ops;
    struct kv
        *cache; // [RUNNER_MAX_BEAM]: running sequences; cache[0] keeps the prompt between turns
    struct kv *spare; // [RUNNER_MAX_BEAM]: where beams are reordered to
    size_t n_beam;    // sequences made of cache[0]; 0 = it runs alone
    size_t n_prompt;  // positions that all caches share
    size_t n_reused;  // of them were not computed by the last prefill
    size_t max_new;   // room wanted behind the prompt
    size_t ctx_limit; // most positions
    struct batch_seat seat;
    struct prefix prefix; // what cache[0] offers to others
};

// Most positions that a session can have: rotary angles that stretch (SPEC 7.2) reach beyond those of training.
size_t runner_ctx_most(const iv_engine *engine);

// callbacks must outlive the runner. n_ctx 0 = the model's maximum.
int runner_init(struct runner *r, const iv_engine *engine, const struct iv_callbacks *cb,
                size_t n_ctx, struct err *e);
void runner_free(struct runner *r);
// Frees the beams and the scratch, and forgets what lies behind the first n positions of cache[0], with the room for much
// more; it is returned: while
// the runner is idle its owner may take it away, and puts it or an empty one back.
struct kv *runner_rest(struct runner *r, size_t n);

struct runner_prompt {
    const int32_t *ids; // -1 = the next row of `rows`
    size_t n;
    const float *rows; // host, f32 [visual positions, d_model]
    size_t n_reused;   // positions of cache[0] that already hold this prompt's beginning
    size_t max_new;    // room wanted behind the prompt
    bool share;        // others may have, or be given, the keys of its beginning
};

// Prompt positions that may be kept when the first n_same ids are those of the last prompt: so many that
// they and what remains take the same kernels and rotary base as a whole prompt would, so that answers do
// not depend on caching.
size_t runner_reusable(const struct runner *r, size_t n_same, size_t n_prompt);

// Fills cache[0] behind n_reused positions, or more that others give: r->n_reused. ids and rows stay until runner_rest
// or the next call. logits, host f32 [n_vocab], of the last position. On failure cache[0]
// holds the positions up to cache[0].n, as many as had been computed.
int runner_prefill(struct runner *r, const struct runner_prompt *p, float *logits, struct err *e);
// Around the steps of an answer of one sequence, which then go together with those of other conversations.
void runner_sit(struct runner *r);
void runner_rise(struct runner *r);
// One more token for each of n_beam sequences; logits, host f32 [n_beam, n_vocab].
int runner_step(struct runner *r, const int32_t *ids, size_t n_beam, float *logits, struct err *e);
// Sequence i continues what sequence parent[i] was; the first call behind a prefill makes n_beam
// sequences of the one there is.
int runner_reorder(struct runner *r, const size_t *parent, size_t n_beam, struct err *e);

// Scratch of a step of n_row sequences that end at position n_pos at most.
int runner_plan_step(const iv_engine *engine, size_t n_pos, size_t n_row, size_t *bytes,
                     struct err *e);
// What prefilling positions [n_reused, n_prompt) and one decoding step behind them take.
int runner_plan(const iv_engine *engine, size_t n_reused, size_t n_prompt, size_t n_beam,
                struct ops_plan *prefill, struct ops_plan *step, struct err *e);

#endif

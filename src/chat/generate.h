// SPDX-License-Identifier: MIT
// From the first logits to an answer: greedy, sampled or by beam search, with stop texts, streaming and
// log-probabilities (SPEC 7.3 - 7.6). The model is behind struct decoder.
#ifndef IV_CHAT_GENERATE_H
#define IV_CHAT_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "chat/logprob.h"
#include "chat/sampler.h"
#include "chat/stop.h"
#include "text/detok.h"
#include "text/ids.h"
#include "text/tokenizer.h"

// What is known of the model besides its logits. Borrowed.
struct generate_model {
    const struct tokenizer *tokenizer;
    size_t n_vocab;     // length of a row of logits
    const int32_t *eos; // [n_eos]
    size_t n_eos;
};

enum { GENERATE_LOGPROB_MAX = 20 };

struct generate_options {
    struct sampler_options sampler;
    int max_new_tokens;      // >= 1; the end of sequence counts
    int n_beam;              // 1; 2..BEAM_MAX = beam search, with sampler.do_sample beam sampling
    double length_penalty;   // beam search
    const char *const *stop; // [n_stop] see stop.h
    size_t n_stop;
    const int32_t
        *forced; // [n_forced] chosen whatever the logits are; then the answer ends. Not with beams
    size_t n_forced;
    int n_logprob; // -1 = none; 0..GENERATE_LOGPROB_MAX = of each token and of that many best ones; not
                   // with beams
    void *user; // of the two callbacks
    // Pieces of the answer as they become certain, whole UTF-8 characters; from beam search all at the end.
    void (*text)(void *user, const char *piece, size_t n);
    // Each chosen token and the model's logits f32 [n_vocab] it was chosen from; not with beams.
    void (*token)(void *user, int32_t id, const float *logits, size_t n_vocab);
    const struct hooks *hooks; // abort; progress "generate" in tokens; NULL = none
};

// The release's settings with do_sample off: 200 tokens, one beam, no log-probabilities.
struct generate_options generate_options_default(void);
// ERR_USAGE naming the option. The functions below check too; this is for telling before any work.
int generate_options_check(const struct generate_options *o, struct err *e);

enum finish_reason { FINISH_NONE, FINISH_STOP, FINISH_LENGTH };
// "stop" or "length"; "" while generating.
const char *finish_reason_name(enum finish_reason f);

struct beam_answer {
    struct ids ids;
    double score;
};

struct generation {
    struct ids ids;  // generated, a final end of sequence included, also those behind a stop text
    struct buf text; // without special tokens and cut in front of a stop text
    enum finish_reason finish;
    // Text of a control token is in the answer because the model generated that token:
    // prompt_turn.answer_special of this answer.
    bool has_control;
    // n_logprob >= 0: [ids.n, 1 + n_logprob] of the model's logits as they came (before penalties and
    // temperature): the chosen token, then the best ones.
    struct token_logprob *logprob;
    // Beam search: every hypothesis, best first, the first being the answer.
    struct beam_answer *beam;
    size_t n_beam;
};

void generation_free(struct generation *a);

// ---- one answer, a token at a time: any number of these can share one batched model

struct generator {
    struct generation answer;
    bool done;
    int32_t next; // not done: the token to feed to the model
    // inside
    struct generate_model model;
    const struct generate_options *opt;
    struct sampler sampler;
    struct detok detok;
    struct stop_match stop;
    struct buf piece;
    size_t cap_logprob; // rows
};

// Greedy or sampling (n_beam is not looked at). o is borrowed until generator_free. On failure g is zeroed.
int generator_init(struct generator *g, const struct generate_model *m,
                   const struct generate_options *o, struct err *e);
// Frees the answer too, unless it was moved out (g->answer = (struct generation){0}).
void generator_free(struct generator *g);
// Chooses a token from the logits f32 [n_vocab] behind the last one; then g->done, or feed g->next.
// After a failure g can only be freed.
int generator_push(struct generator *g, const float *logits, struct err *e);

// ---- the loop

// The model at the end of a prompt. step and reorder return 0 or an error that ends the generation.
struct decoder {
    void *self;
    // Appends ids[i] to timeline i < n_row and writes what comes next to logits f32 [n_row, n_vocab].
    int (*step)(void *self, const int32_t *ids, size_t n_row, float *logits, struct err *e);
    // Beam search: timeline i < n_row goes on as a copy of timeline parent[i], all at once. The first
    // call makes n_row of the one timeline of the prompt. NULL = no beam search.
    int (*reorder)(void *self, const size_t *parent, size_t n_row, struct err *e);
};

// logits f32 [n_beam, n_vocab]: on entry row 0 is that of the prompt's last position; on success the
// rows of the last step. The last token is not fed to the model. On success *out is the caller's, to
// generation_free; on failure (ERR_ABORT included) it is zeroed.
int generate_run(const struct generate_model *m, const struct decoder *d,
                 const struct generate_options *o, float *logits, struct generation *out,
                 struct err *e);

#endif

// SPDX-License-Identifier: MIT
// Log-probabilities of an answer's tokens, as OpenAI's clients read them.
#ifndef IV_APPS_SERVE_TOKENNOTES_H
#define IV_APPS_SERVE_TOKENNOTES_H

#include "chatreq.h"
#include "ivchat.h"

struct tokennote {
    int32_t id[1 + CHATREQ_TOP_MAX]; // the token, then the best ones
    double logprob[1 + CHATREQ_TOP_MAX];
};

struct tokennotes {
    int n_top; // -1 = nothing is noted
    struct tokennote *note;
    size_t n, cap, told; // told: those that a chunk has shown
    bool failed;
};

// Of the token and the n_top best of logits [n_vocab].
void tokennotes_add(struct tokennotes *t, int32_t id, const float *logits, size_t n_vocab);
// "logprobs": {"content": [...]} of those not told yet; null when nothing is noted.
void tokennotes_json(struct tokennotes *t, const iv_engine *engine, struct json_writer *w);
void tokennotes_free(struct tokennotes *t);

#endif

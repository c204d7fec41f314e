// SPDX-License-Identifier: MIT
// Shows a model the items of a media list: for an importance matrix, and to compare a quantised model with its
// source.
#ifndef IV_APPS_CALIBRATE_H
#define IV_APPS_CALIBRATE_H

#include "console.h"
#include "medialist.h"
#include "settings.h"

// Asks the model of s->from every item and saves what its layers read to s->imatrix_out.
int calibrate_gather(const struct settings *s, const struct media_list *l, struct console *con,
                     struct iv_error *e);

// How far the logits of one model are from those of another, over the tokens that the first one answers.
struct logit_distance {
    uint64_t n_item, n_token;
    double kl_mean, kl_p99, kl_max; // nats, KL(source || quantised) of a token
    double top1;                    // share of tokens whose most probable one is the same
    double logits_cosine;           // mean over the tokens, of the vectors around their means
    double source_perplexity, quantised_perplexity; // of the source's answers
    uint64_t same_answers;                          // items whose greedy answers are equal
};

// Source: s->from; quantised: the pair at `language`. Computes in s->dtype.
int calibrate_compare(const struct settings *s, const struct media_list *l, const char *language,
                      struct console *con, struct logit_distance *out, struct iv_error *e);

#endif

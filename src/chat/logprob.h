// SPDX-License-Identifier: MIT
// Log-probabilities of one row of scores, and the best tokens of a row.
#ifndef IV_CHAT_LOGPROB_H
#define IV_CHAT_LOGPROB_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct token_logprob {
    int32_t id;
    float logprob; // natural logarithm, <= 0
};

// ERR_MODEL if any of the n scores is NaN or +infinity or all are -infinity, which no working model
// gives; n = 0 is ERR_FAIL. -infinity alone is allowed: a token that cannot come.
int logprob_check(const float *scores, size_t n, struct err *e);

// log sum exp of the n scores, at least one of them finite. Doubles, added in index order.
double logprob_total(const float *scores, size_t n);

// In place: scores[i] -= logprob_total. Row as for logprob_total.
void logprob_normalise(float *scores, size_t n);

// prob[i] = softmax of the row, each rounded to f32; may alias scores. Returns their sum in double,
// added in index order (1 up to rounding).
double logprob_softmax(const float *scores, size_t n, float *prob);

// The n_top best tokens of a row (best first, lower id first on ties; fewer if the row is shorter) in
// top, as log-probabilities. Returns how many. Row as for logprob_total.
size_t logprob_top(const float *scores, size_t n, struct token_logprob *top, size_t n_top);

#endif

// SPDX-License-Identifier: MIT
// log p_i = s_i - log sum_j exp(s_j), with the maximum subtracted first. Scores are f32 as the model
// gives them; sums are double and run in index order, so a row has one result everywhere.
#include "chat/logprob.h"

#include <math.h>

#include "chat/fixed_math.h"

int logprob_check(const float *scores, size_t n, struct err *e)
{
    if (n == 0)
        return err_set(e, ERR_FAIL, "logits: the row is empty");
    size_t n_finite = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(scores[i]) || scores[i] == INFINITY)
            return err_set(e, ERR_MODEL, "logits: the score of token %zu of %zu is %s", i, n,
                           isnan(scores[i]) ? "NaN" : "infinite");
        n_finite += scores[i] != -INFINITY;
    }
    if (n_finite == 0)
        return err_set(e, ERR_MODEL, "logits: all %zu scores are -infinity", n);
    return 0;
}

static float row_max(const float *scores, size_t n)
{
    float best = -INFINITY;
    for (size_t i = 0; i < n; i++)
        best = scores[i] > best ? scores[i] : best;
    return best;
}

double logprob_total(const float *scores, size_t n)
{
    double best = row_max(scores, n), sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += fixed_exp((double)scores[i] - best);
    return best + fixed_log(sum);
}

void logprob_normalise(float *scores, size_t n)
{
    double total = logprob_total(scores, n);
    for (size_t i = 0; i < n; i++)
        scores[i] = (float)((double)scores[i] - total);
}

double logprob_softmax(const float *scores, size_t n, float *prob)
{
    double total = logprob_total(scores, n), sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        prob[i] = (float)fixed_exp((double)scores[i] - total);
        sum += (double)prob[i];
    }
    return sum;
}

size_t logprob_top(const float *scores, size_t n, struct token_logprob *top, size_t n_top)
{
    size_t n_held = 0;
    if (n_top == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (n_held == n_top && scores[i] <= top[n_held - 1].logprob)
            continue;
        size_t at = n_held < n_top ? n_held++ : n_held - 1;
        for (; at > 0 && top[at - 1].logprob < scores[i]; at--)
            top[at] = top[at - 1];
        top[at] = (struct token_logprob){.id = (int32_t)i, .logprob = scores[i]};
    }
    double total = logprob_total(scores, n);
    for (size_t i = 0; i < n_held; i++)
        top[i].logprob = (float)((double)top[i].logprob - total);
    return n_held;
}

// SPDX-License-Identifier: MIT
// Asking one model after the other. The source answers greedily; the quantised model is given the same
// tokens, one by one, and what it thought of each is compared. Item by item, so that only one answer's logits
// are held, and both models are open at once: their weights are mapped, not read.
//
//   KL = sum_i p_i (log p_i - log q_i)     p the source's probabilities, q the quantised model's
//
// Easy to get wrong: a token's logits are those in front of it, so the first one's are of the prompt's last
// position; the top-1 share counts positions, not answers, which part for good at the first difference.
#include "calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "savefile.h"
#include "signals.h"

static void on_log(void *user, enum iv_log_level level, const char *line)
{
    console_line(user, level, line);
}

static bool on_abort(void *user)
{
    struct console *con = user;
    return signals_caught() || atomic_load(&con->output_lost);
}

static struct iv_callbacks callbacks(struct console *con)
{
    return (struct iv_callbacks){.user = con, .log = on_log, .abort = on_abort};
}

static int open_engine(const struct settings *s, const char *model, bool gather,
                       struct console *con, iv_engine **out, struct iv_error *e)
{
    struct iv_engine_options o = iv_engine_options_default();
    o.model = model;
    o.variant = s->variant;
    o.device = "cpu";
    o.dtype = s->dtype;
    o.n_threads = s->threads;
    o.cache_mib = 0; // what was computed once is not seen by the sums
    o.gather_imatrix = gather;
    o.callbacks = callbacks(con);
    return iv_engine_open(&o, out, e);
}

static int open_media(const iv_engine *g, const struct media_item *x, struct console *con,
                      iv_media **out, struct iv_error *e)
{
    struct iv_media_options o = iv_media_options_default();
    const char *const image[] = {x->image};
    o.callbacks = callbacks(con);
    *out = NULL;
    if (x->video)
        return iv_media_open_video(g, x->video, &o, out, e);
    return x->image ? iv_media_open_images(g, image, 1, &o, out, e) : IV_OK;
}

// One question in a conversation of its own.
static int ask(const iv_engine *g, const struct media_item *x, const struct iv_ask_options *o,
               struct console *con, struct iv_answer *a, struct iv_error *e)
{
    iv_media *media;
    iv_session *session = NULL;
    struct iv_session_options so = iv_session_options_default();
    so.instruction = x->instruction;
    so.callbacks = callbacks(con);
    memset(a, 0, sizeof *a);
    int rc = open_media(g, x, con, &media, e);
    if (rc == IV_OK)
        rc = iv_session_open(g, media, &so, &session, e);
    if (rc == IV_OK)
        rc = iv_session_ask(session, x->prompt, o, a, e);
    iv_session_close(session);
    iv_media_close(media);
    return rc;
}

int calibrate_gather(const struct settings *s, const struct media_list *l, struct console *con,
                     struct iv_error *e)
{
    iv_engine *g = NULL;
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_answer a;
    const char *name = s->media ? s->media : "prompts", *slash = strrchr(name, '/');
    int rc = open_engine(s, s->from, true, con, &g, e);
    o.max_new_tokens = s->max_new_tokens;
    for (size_t i = 0; rc == IV_OK && i < l->n; i++) {
        console_progress(con, "calibrate", i, l->n);
        rc = ask(g, &l->item[i], &o, con, &a, e);
        iv_answer_free(&a);
    }
    if (rc == IV_OK) {
        console_progress(con, "calibrate", l->n, l->n);
        rc = iv_imatrix_save(g, s->imatrix_out, slash ? slash + 1 : name, e);
    }
    iv_engine_close(g);
    return rc;
}

// ---- comparing

struct kept {
    float *logits; // [n, n_vocab] of the source
    size_t n, cap, n_vocab;
    bool failed;
};

static void keep(void *user, int32_t id, const float *logits, size_t n_vocab)
{
    struct kept *k = user;
    (void)id;
    k->n_vocab = n_vocab;
    if (k->n == k->cap) {
        size_t cap = k->cap ? 2 * k->cap : 16;
        float *p = heap_realloc(k->logits, cap * n_vocab, sizeof *p);
        if (!p) {
            k->failed = true;
            return;
        }
        k->logits = p;
        k->cap = cap;
    }
    memcpy(k->logits + k->n++ * n_vocab, logits, n_vocab * sizeof *logits);
}

struct tally {
    const struct kept *source;
    size_t at;            // token of this answer
    double *kl;           // [n], of all answers
    size_t n, cap, equal; // equal: the same top-1
    double cosine, source_log, quantised_log;
    bool failed;
};

struct spread {
    size_t top;
    double log_total, mean;
};

static struct spread spread_of(const float *x, size_t n)
{
    struct spread s = {0};
    double sum = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        if (x[i] > x[s.top])
            s.top = i;
        all += (double)x[i];
    }
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[s.top]);
    s.log_total = (double)x[s.top] + log(sum);
    s.mean = all / (double)n;
    return s;
}

static void compare(void *user, int32_t id, const float *q, size_t n_vocab)
{
    struct tally *t = user;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 1024;
        double *p = heap_realloc(t->kl, cap, sizeof *p);
        if (!p) {
            t->failed = true;
            return;
        }
        t->kl = p;
        t->cap = cap;
    }
    const float *p = t->source->logits + t->at++ * n_vocab;
    struct spread sp = spread_of(p, n_vocab), sq = spread_of(q, n_vocab);
    double kl = 0, pp = 0, qq = 0, pq = 0;
    for (size_t i = 0; i < n_vocab; i++) {
        double lp = (double)p[i] - sp.log_total, lq = (double)q[i] - sq.log_total;
        kl += exp(lp) * (lp - lq);
        double a = (double)p[i] - sp.mean, b = (double)q[i] - sq.mean;
        pp += a * a;
        qq += b * b;
        pq += a * b;
    }
    t->kl[t->n++] = kl > 0 ? kl : 0;
    t->equal += sp.top == sq.top;
    t->cosine += pp > 0 && qq > 0 ? pq / sqrt(pp * qq) : 1;
    t->source_log += (double)p[id] - sp.log_total;
    t->quantised_log += (double)q[id] - sq.log_total;
}

static int compare_item(const struct settings *s, iv_engine *const g[2], const struct media_item *x,
                        struct console *con, struct tally *t, bool *same, struct iv_error *e)
{
    struct kept k = {0};
    struct iv_answer first, forced = {0}, own = {0};
    struct iv_ask_options o = iv_ask_options_default();
    o.max_new_tokens = s->max_new_tokens;
    o.user = &k;
    o.token = keep;
    int rc = ask(g[0], x, &o, con, &first, e);
    if (rc == IV_OK && k.failed)
        rc =
            app_error(e, IV_ERR_LIMIT, "out of memory for the logits of %zu tokens", first.n_token);
    if (rc == IV_OK) {
        struct iv_ask_options f = iv_ask_options_default();
        t->source = &k;
        t->at = 0;
        f.forced = first.token_ids;
        f.n_forced = first.n_token;
        f.user = t;
        f.token = compare;
        rc = ask(g[1], x, &f, con, &forced, e);
    }
    if (rc == IV_OK && t->failed)
        rc = app_error(e, IV_ERR_LIMIT, "out of memory for the distances of %zu tokens", t->n);
    if (rc == IV_OK) {
        o.token = NULL;
        rc = ask(g[1], x, &o, con, &own, e);
    }
    *same = rc == IV_OK && own.n_token == first.n_token &&
            memcmp(own.token_ids, first.token_ids, own.n_token * sizeof *own.token_ids) == 0;
    heap_free(k.logits);
    iv_answer_free(&first);
    iv_answer_free(&forced);
    iv_answer_free(&own);
    return rc;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sum_up(const struct tally *t, struct logit_distance *out)
{
    double n = (double)t->n, sum = 0;
    out->n_token = t->n;
    if (t->n == 0)
        return;
    qsort(t->kl, t->n, sizeof *t->kl, by_size);
    for (size_t i = 0; i < t->n; i++)
        sum += t->kl[i];
    out->kl_mean = sum / n;
    out->kl_p99 = t->kl[(t->n - 1) * 99 / 100];
    out->kl_max = t->kl[t->n - 1];
    out->top1 = (double)t->equal / n;
    out->logits_cosine = t->cosine / n;
    out->source_perplexity = exp(-t->source_log / n);
    out->quantised_perplexity = exp(-t->quantised_log / n);
}

int calibrate_compare(const struct settings *s, const struct media_list *l, const char *language,
                      struct console *con, struct logit_distance *out, struct iv_error *e)
{
    iv_engine *g[2] = {0};
    struct tally t = {0};
    memset(out, 0, sizeof *out);
    int rc = open_engine(s, s->from, false, con, &g[0], e);
    if (rc == IV_OK)
        rc = open_engine(s, language, false, con, &g[1], e);
    for (size_t i = 0; rc == IV_OK && i < l->n; i++) {
        bool same;
        console_progress(con, "compare", i, l->n);
        rc = compare_item(s, g, &l->item[i], con, &t, &same, e);
        out->same_answers += same;
    }
    if (rc == IV_OK) {
        console_progress(con, "compare", l->n, l->n);
        out->n_item = l->n;
        sum_up(&t, out);
    }
    heap_free(t.kl);
    iv_engine_close(g[1]);
    iv_engine_close(g[0]);
    return rc;
}

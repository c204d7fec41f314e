// SPDX-License-Identifier: MIT
// `ivchat bench`, stage decode: steps from token to token.
//
//   read  step step  read  step step  read
//
// How fast memory is read is measured every second step, since it may change by the second, and a step is held against the
// mean of both sides.
//
// Easy to get wrong: the first token comes with the prefill, so n tokens are n - 1 steps; the time that reading takes
// belongs to no step, but the one behind it finds nothing in the caches.

#include "bench.h"
#include "heap.h"
#include "savefile.h"
#include "wallclock.h"

enum { GROUP = 2 }; // steps between two looks at the memory

struct steps {
    struct bench_row *row;
    iv_read_probe *probe; // NULL = nobody wants to know
    double last;          // ms, when the token before came; 0 = there is none
    double rate;          // in front of the group
    size_t n;             // steps of it
    bool count, full;     // full: no memory for more times
};

static void look(struct steps *s)
{
    if (!s->probe || !s->count) {
        s->n = 0;
        return;
    }
    double rate = iv_read_probe_rate(s->probe);
    for (; s->n > 0; s->n--)
        s->full = !samples_add(&s->row->read, (s->rate + rate) / 2) || s->full;
    s->rate = rate;
}

static void on_token(void *user, int32_t id, const float *logits, size_t n_vocab)
{
    struct steps *s = user;
    double now = 1e3 * clock_seconds();
    (void)id;
    (void)logits;
    (void)n_vocab;
    if (s->last > 0 && s->count) {
        s->full = !samples_add(&s->row->time, now - s->last) || s->full;
        s->n++;
    }
    if (s->last == 0 || s->n == GROUP) {
        look(s);
        now = 1e3 * clock_seconds();
    }
    s->last = now;
}

static int run(struct bench *b, const char *prompt, struct steps *s, int n_new)
{
    struct iv_ask_options ask = iv_ask_options_default();
    double ms;
    ask.ignore_eos = true;
    ask.token = on_token;
    ask.user = s;
    ask.max_new_tokens = n_new;
    s->last = 0;
    int rc = bench_ask_text(b, prompt, &ask, &ms);
    if (s->n > 0 && rc == IV_OK)
        look(s);
    return rc == IV_OK && s->full
               ? app_error(&b->work.error, IV_ERR_LIMIT, "out of memory for the times of %zu steps",
                           s->row->time.n)
               : rc;
}

int bench_decode(struct bench *b, struct bench_row *row)
{
    const struct settings *o = &b->settings;
    struct steps s = {.row = row};
    char *prompt = NULL;
    int rc = bench_prompt(b, (size_t)o->context, &prompt);
    if (rc == IV_OK && o->peaks)
        rc = iv_read_probe_open(o->cpu, o->threads, &s.probe, &b->work.error);
    for (int i = 0; i <= o->repeat && rc == IV_OK; i++) {
        s.count = i > 0;
        rc = run(b, prompt, &s, s.count ? o->max_new_tokens : 2);
    }
    iv_read_probe_close(s.probe);
    heap_free(prompt);
    return rc;
}

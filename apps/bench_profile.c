// SPDX-License-Identifier: MIT
// `ivchat bench --profile`: one first turn, its time by stage and kind of work.
//
// "busy" is how much of the threads' time was work: the rest they waited, for each other or for a processor.
//
// Easy to get wrong: what no row tells (tokenizer, sampler, opening the media, calls themselves) is the rest of the turn, not
// nothing.

#include <string.h>

#include "bench.h"
#include "wallclock.h"

int bench_profile(struct bench *b)
{
    struct bench_profile *p = &b->profile;
    struct iv_session_options o = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_error *e = &b->work.error;
    struct iv_answer answer;
    iv_session *session = NULL;
    iv_media *media = NULL;
    work_close(&b->work);
    b->settings.profile = true;
    b->work.lasting = false; // as in a chat
    int rc = work_open(&b->work, false);
    p->before = b->peaks;
    if (rc == IV_OK)
        rc = bench_media(b, &media, &p->media_ms);
    double begun = clock_seconds();
    o.callbacks = work_callbacks(&b->work);
    ask.ignore_eos = true;
    ask.max_new_tokens = b->settings.max_new_tokens;
    if (rc == IV_OK)
        rc = iv_session_open(b->work.engine, media, &o, &session, e);
    if (rc == IV_OK) {
        rc = iv_session_ask(session, "Describe the action step by step.", &ask, &answer, e);
        p->turn_ms = p->media_ms + 1e3 * (clock_seconds() - begun);
        if (rc == IV_OK)
            iv_answer_free(&answer);
    }
    if (rc == IV_OK)
        rc = iv_engine_profile(b->work.engine, &p->row, &p->n, e);
    iv_session_close(session);
    iv_media_close(media);
    if (rc == IV_OK)
        rc = bench_peaks(b);
    p->after = b->peaks;
    return rc;
}

// Time that a row's work takes at least, ms; 0 = nothing is counted.
static double limit_ms(const struct bench *b, const struct iv_profile_row *r)
{
    const struct bench_profile *p = &b->profile;
    double peak = bench_product_peak(b, &p->before) + bench_product_peak(b, &p->after);
    double read = p->before.read_bytes + p->after.read_bytes;
    if (peak <= 0 || read <= 0)
        return 0;
    double computing = 2e3 * r->flop / peak, reading = 2e3 * r->bytes / read;
    return computing > reading ? computing : reading;
}

static double busy(const struct bench *b, const struct iv_profile_row *r)
{
    double threads = iv_engine_info(b->work.engine)->n_threads;
    return r->ms > 0 ? r->cpu_ms / (r->ms * threads) : 0;
}

static double rest_ms(const struct bench_profile *p)
{
    double rest = p->turn_ms - p->media_ms;
    for (size_t i = 0; i < p->n; i++)
        rest -= p->row[i].ms;
    return rest > 0 ? rest : 0;
}

static void line(struct console *c, const char *stage, const char *kind, double ms, double turn_ms)
{
    (void)console_print(c, "%-9s %-12s %11.3f %6.1f %%", stage, kind, ms,
                        turn_ms > 0 ? 1e2 * ms / turn_ms : 0);
}

void bench_profile_text(struct bench *b)
{
    const struct bench_profile *p = &b->profile;
    struct console *c = b->work.con;
    (void)console_print(c, "\n%-9s %-12s %11s %8s %9s %8s %9s %8s %9s\n", "profile", "kind", "ms",
                        "of turn", "calls", "busy", "GFLOP/s", "GB/s", "of limit");
    line(c, "media", "all", p->media_ms, p->turn_ms);
    (void)console_print(c, "\n");
    for (size_t i = 0; i < p->n; i++) {
        const struct iv_profile_row *r = &p->row[i];
        double limit = limit_ms(b, r);
        line(c, r->stage, r->kind, r->ms, p->turn_ms);
        (void)console_print(c, " %9llu %6.0f %%", (unsigned long long)r->calls, 1e2 * busy(b, r));
        if (r->ms > 0 && (r->flop > 0 || r->bytes > 0))
            (void)console_print(c, " %9.1f %8.2f", r->flop / r->ms * 1e-6, r->bytes / r->ms * 1e-6);
        if (r->ms > 0 && limit > 0)
            (void)console_print(c, " %7.0f %%", 1e2 * limit / r->ms);
        (void)console_print(c, "\n");
    }
    line(c, "rest", "", rest_ms(p), p->turn_ms);
    (void)console_print(c, "\n");
    line(c, "turn", "", p->turn_ms, p->turn_ms);
    (void)console_print(c, "\n");
}

void bench_profile_json(struct bench *b, struct json_writer *j)
{
    const struct bench_profile *p = &b->profile;
    jw_object(j, "profile");
    jw_real(j, "turn_ms", p->turn_ms);
    jw_real(j, "media_ms", p->media_ms);
    jw_real(j, "rest_ms", rest_ms(p));
    jw_array(j, "rows");
    for (size_t i = 0; i < p->n; i++) {
        const struct iv_profile_row *r = &p->row[i];
        double limit = limit_ms(b, r);
        jw_object(j, NULL);
        jw_text(j, "stage", r->stage);
        jw_text(j, "kind", r->kind);
        jw_count(j, "calls", r->calls);
        jw_real(j, "ms", r->ms);
        jw_real(j, "cpu_ms", r->cpu_ms);
        jw_real(j, "flop", r->flop);
        jw_real(j, "bytes", r->bytes);
        if (limit > 0 && r->ms > 0)
            jw_real(j, "share", limit / r->ms);
        else
            jw_null(j, "share");
        jw_end(j);
    }
    jw_end(j);
    jw_end(j);
}

// SPDX-License-Identifier: MIT
// `ivchat bench`: how fast each stage and whole turns are, and what share of this machine's own peaks that is.
//
//   which stages -> engine -> peaks, stage, peaks, stage, ... peaks -> text, JSON or CSV
//
// --stage peaks alone needs no model.
//
// Easy to get wrong: the settings are copied, since turns need a cache that the other options of this verb do not
// speak of.

#include <string.h>

#include "bench.h"
#include "nearest.h"
#include "savefile.h"

enum { CACHE_MIB = 4096 };

static int choose_stage(struct bench *b, const char *name)
{
    struct nearest near = {.word = name};
    for (int i = 0; i < BENCH_STAGE_N; i++) {
        if (strcmp(name, bench_stage_name[i]) == 0) {
            b->row[i].wanted = b->any = true;
            return IV_OK;
        }
        nearest_offer(&near, bench_stage_name[i]);
    }
    if (strcmp(name, "peaks") == 0)
        return IV_OK;
    const char *best = nearest_word(&near);
    return app_error(&b->work.error, IV_ERR_USAGE, "--stage: no stage is called \"%.60s\"%s%s%s",
                     name, best ? ", did you mean " : "", best ? best : "", best ? "?" : "");
}

static int choose(struct bench *b)
{
    const struct settings *s = &b->settings;
    int rc = IV_OK;
    for (size_t i = 0; i < s->bench_stage.n && rc == IV_OK; i++)
        rc = choose_stage(b, s->bench_stage.item[i]);
    for (int i = 0; i < BENCH_STAGE_N && s->bench_stage.n == 0; i++) {
        b->any = true;
        b->row[i].wanted =
            (i != BENCH_VIDEO || s->video) && (i != BENCH_SESSIONS || s->sessions > 0);
    }
    return rc;
}

static int check(struct bench *b)
{
    const struct settings *s = &b->settings;
    struct iv_error *e = &b->work.error;
    int rc = choose(b);
    if (rc != IV_OK)
        return rc;
    if (s->json && s->csv)
        return app_error(e, IV_ERR_USAGE, "--json and --csv exclude each other");
    if (s->profile && s->csv)
        return app_error(e, IV_ERR_USAGE, "--profile and --csv exclude each other");
    if (!b->any && !s->profile && !s->peaks)
        return app_error(e, IV_ERR_USAGE, "--stage peaks and --no-peaks exclude each other");
    if (s->image.n > 0)
        return app_error(e, IV_ERR_USAGE, "--image: bench measures videos; use --video");
    if (s->segments > 0)
        return app_error(e, IV_ERR_USAGE, "--segments: bench measures a video in one piece");
    if (s->video && strcmp(s->video, "-") == 0)
        return app_error(e, IV_ERR_USAGE,
                         "--video -: bench opens the video again and again; name a file");
    if (b->row[BENCH_VIDEO].wanted && !s->video)
        return app_error(e, IV_ERR_USAGE, "--stage video: give the video with --video");
    if (b->row[BENCH_SESSIONS].wanted && s->sessions == 0)
        return app_error(e, IV_ERR_USAGE, "--stage sessions: say how many with --sessions");
    if ((b->row[BENCH_DECODE].wanted || b->row[BENCH_SESSIONS].wanted) && s->max_new_tokens < 2)
        return app_error(
            e, IV_ERR_USAGE,
            "--max-new-tokens %d: a step of decoding is measured from the second token on",
            s->max_new_tokens);
    return work_check(&b->work);
}

int bench_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct bench b = {.work = {.verb = verb, .con = con, .lasting = true}, .settings = *s};
    b.work.s = &b.settings;
    b.settings.cache_mib = CACHE_MIB;
    int rc = check(&b);
    b.profile.wanted = b.settings.profile;
    b.settings.profile = false; // of the engines that the stages are measured with
    if (rc == IV_OK && b.any)
        rc = work_open(&b.work, false);
    if (rc == IV_OK)
        rc = b.any ? bench_stages(&b) : bench_peaks(&b);
    if (rc == IV_OK && b.profile.wanted)
        rc = bench_profile(&b);
    if (rc == IV_OK)
        rc = bench_report(&b);
    int exit_code = rc == IV_OK ? 0 : work_fail(&b.work, rc);
    for (int i = 0; i < BENCH_STAGE_N; i++) {
        samples_free(&b.row[i].time);
        samples_free(&b.row[i].read);
    }
    iv_free(b.profile.row);
    work_close(&b.work);
    return exit_code;
}

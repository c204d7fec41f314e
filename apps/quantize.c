// SPDX-License-Identifier: MIT
// `ivchat quantize SRC DST`: standard output gets the paths of the two files, or with --json one object.
//
// Easy to get wrong: the bar has to go before any other line (console.h sees to it); a run that is stopped
// leaves nothing under the files' names, so its exit code is all there is to say.

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bytesize.h"
#include "calibrate.h"
#include "console.h"
#include "heap.h"
#include "jsontext.h"
#include "savefile.h"
#include "signals.h"
#include "verbs.h"
#include "wallclock.h"

static void on_log(void *user, enum iv_log_level level, const char *line)
{
    console_line(user, level, line);
}

static void on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    console_progress(user, stage, done, total);
}

static bool on_abort(void *user)
{
    struct console *con = user;
    return signals_caught() || atomic_load(&con->output_lost);
}

struct told_tensor {
    char name[128], type[16];
    struct iv_quantized_tensor t; // its texts are above
};

// What --report tells.
struct report {
    struct told_tensor *tensor; // [n]
    size_t n, cap;
    bool failed, compared;
    struct logit_distance logits;
};

static void on_tensor(void *user, const struct iv_quantized_tensor *t)
{
    struct report *r = user;
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 512;
        struct told_tensor *p = heap_realloc(r->tensor, cap, sizeof *p);
        if (!p) {
            r->failed = true;
            return;
        }
        r->tensor = p;
        r->cap = cap;
    }
    struct told_tensor *x = &r->tensor[r->n++];
    snprintf(x->name, sizeof x->name, "%s", t->name);
    snprintf(x->type, sizeof x->type, "%s", t->type);
    x->t = *t;
}

static void report_json(struct json_writer *w, const struct report *r)
{
    jw_array(w, "tensors");
    for (size_t i = 0; i < r->n; i++) {
        const struct iv_quantized_tensor *t = &r->tensor[i].t;
        jw_object(w, NULL);
        jw_text(w, "name", r->tensor[i].name);
        jw_text(w, "file", t->vision ? "vision" : "language");
        jw_text(w, "type", r->tensor[i].type);
        jw_count(w, "rows", t->rows);
        jw_count(w, "cols", t->cols);
        jw_count(w, "bytes", t->bytes);
        jw_flag(w, "weighted", t->weighted);
        jw_real(w, "relative_rms", t->relative_rms);
        jw_real(w, "cosine", t->cosine);
        jw_real(w, "largest_error", t->largest_error);
        jw_end(w);
    }
    jw_end(w);
    if (!r->compared)
        return;
    const struct logit_distance *d = &r->logits;
    jw_object(w, "logits");
    jw_count(w, "questions", d->n_item);
    jw_count(w, "tokens", d->n_token);
    jw_real(w, "kl_mean", d->kl_mean);
    jw_real(w, "kl_p99", d->kl_p99);
    jw_real(w, "kl_max", d->kl_max);
    jw_real(w, "top1", d->top1);
    jw_real(w, "cosine", d->logits_cosine);
    jw_real(w, "perplexity_source", d->source_perplexity);
    jw_real(w, "perplexity_quantised", d->quantised_perplexity);
    jw_count(w, "same_answers", d->same_answers);
    jw_end(w);
}

static void report_text(struct console *con, const struct report *r)
{
    (void)console_print(con, "%-52s %-5s %9s x %-6s %10s %11s %10s\n", "tensor", "type", "rows",
                        "cols", "rms error", "cosine", "largest");
    for (size_t i = 0; i < r->n; i++) {
        const struct iv_quantized_tensor *t = &r->tensor[i].t;
        (void)console_print(con, "%-52s %-5s %9llu x %-6llu %10.3e %11.8f %10.3e%s\n",
                            r->tensor[i].name, r->tensor[i].type, (unsigned long long)t->rows,
                            (unsigned long long)t->cols, t->relative_rms, t->cosine,
                            t->largest_error, t->weighted ? " weighted" : "");
    }
    if (!r->compared)
        return;
    const struct logit_distance *d = &r->logits;
    (void)console_print(
        con,
        "logits        KL %.3e nats a token (99%%: %.3e, most: %.3e), top-1 %.2f %%, "
        "cosine %.6f\n",
        d->kl_mean, d->kl_p99, d->kl_max, 100 * d->top1, d->logits_cosine);
    (void)console_print(con,
                        "answers       %llu of %llu the same, %llu tokens, perplexity %.4f (source "
                        "%.4f)\n",
                        (unsigned long long)d->same_answers, (unsigned long long)d->n_item,
                        (unsigned long long)d->n_token, d->quantised_perplexity,
                        d->source_perplexity);
}

static void add_file(struct json_writer *w, const char *key, const char *path, uint64_t bytes)
{
    jw_object(w, key);
    jw_text(w, "path", path);
    jw_count(w, "bytes", bytes);
    jw_end(w);
}

static int tell_json(struct console *con, const struct settings *s,
                     const struct iv_quantize_result *r, const struct report *report,
                     double seconds, struct iv_error *e)
{
    struct json_writer w;
    jw_begin(&w);
    jw_text(&w, "type", s->type ? s->type : r->vision ? "Q4_K_M" : NULL);
    add_file(&w, "language", r->language, r->language_bytes);
    if (r->vision)
        add_file(&w, "vision", r->vision, r->vision_bytes);
    jw_count(&w, "source_bytes", r->source_bytes);
    jw_ms(&w, "ms", 1e3 * seconds);
    if (s->report)
        report_json(&w, report);
    char *line = jw_take(&w);
    if (!line)
        return app_error(e, IV_ERR_LIMIT, "out of memory for the JSON line");
    (void)(console_write(con, line, strlen(line)) && console_write(con, "\n", 1));
    heap_free(line);
    return IV_OK;
}

static void tell_text(struct console *con, const struct iv_quantize_result *r, double seconds)
{
    char from[16], language[16], vision[16];
    console_say(con, "%s of tensors became %s%s%s in %.1f s", bytesize(r->source_bytes, from),
                bytesize(r->language_bytes, language), r->vision ? " + " : "",
                r->vision ? bytesize(r->vision_bytes, vision) : "", seconds);
    const char *path[] = {r->language, r->vision};
    for (int i = 0; i < 2 && path[i]; i++) // may be longer than a line of console_print
        (void)(console_write(con, path[i], strlen(path[i])) && console_write(con, "\n", 1));
}

static int check(const struct settings *s, struct iv_error *e)
{
    bool asked = s->media || s->prompt.n > 0;
    if (!s->from || (!s->to && !s->imatrix_out))
        return app_error(e, IV_ERR_USAGE, "%s given: ivchat quantize SRC DST",
                         s->from ? "no folder to write to" : "no model");
    size_t n = s->to ? strlen(s->to) : 0;
    struct stat st;
    if (n > 5 && strcmp(s->to + n - 5, ".gguf") == 0 && // as other programs are called
        (stat(s->to, &st) != 0 || !S_ISDIR(st.st_mode)))
        return app_error(e, IV_ERR_USAGE,
                         "%s: DST is the folder for the two files, which get names of their own",
                         s->to);
    if (s->imatrix && s->imatrix_out)
        return app_error(e, IV_ERR_USAGE, "--imatrix and --imatrix-out: give one of them");
    if (s->imatrix_out && !asked)
        return app_error(e, IV_ERR_USAGE,
                         "--imatrix-out: say with --media or --prompt what the model is asked");
    if (asked && !s->imatrix_out && !s->report)
        return app_error(e, IV_ERR_USAGE, "--%s: only with --imatrix-out or --report",
                         s->media ? "media" : "prompt");
    if (s->report && !s->to)
        return app_error(e, IV_ERR_USAGE, "--report: no folder to write to given");
    if (s->report && s->format && strcmp(s->format, "gguf") != 0)
        return app_error(e, IV_ERR_USAGE, "--report: only with --format gguf");
    return IV_OK;
}

// Writes the pair and gathers what there is to tell.
static int quantize(const struct settings *s, struct console *con,
                    struct iv_quantize_result *result, struct report *report, struct iv_error *e)
{
    struct iv_quantize_options o = iv_quantize_options_default();
    o.format = s->format;
    o.type = s->type;
    o.vision_type = s->vision_type;
    o.variant = s->variant;
    o.imatrix = s->imatrix_out ? s->imatrix_out : s->imatrix;
    o.tensor_type = s->tensor_type.item;
    o.n_tensor_type = s->tensor_type.n;
    o.n_threads = s->threads;
    o.user = report;
    o.tensor = s->report ? on_tensor : NULL;
    o.callbacks = (struct iv_callbacks){
        .user = con, .log = on_log, .progress = on_progress, .abort = on_abort};
    int rc = iv_quantize(s->from, s->to, &o, result, e);
    if (rc == IV_OK && report->failed)
        rc = app_error(e, IV_ERR_LIMIT, "out of memory for the report");
    return rc;
}

static int work(const struct settings *s, struct console *con, struct iv_error *e)
{
    struct media_list list = {0};
    struct report report = {0};
    struct iv_quantize_result result = {0};
    double begun = clock_seconds(), seconds = 0;
    int rc = check(s, e);
    if (rc == IV_OK)
        rc = media_list_read(&list, s->media, &s->prompt, e);
    if (rc == IV_OK && s->imatrix_out)
        rc = calibrate_gather(s, &list, con, e);
    if (rc == IV_OK && s->to) {
        rc = quantize(s, con, &result, &report, e);
        seconds = clock_seconds() - begun;
        if (rc == IV_OK && s->report && list.n > 0) {
            rc = calibrate_compare(s, &list, result.language, con, &report.logits, e);
            report.compared = true;
        }
        if (rc == IV_OK && s->json)
            rc = tell_json(con, s, &result, &report, seconds, e);
        else if (rc == IV_OK)
            tell_text(con, &result, seconds);
        if (rc == IV_OK && s->report && !s->json)
            report_text(con, &report);
    }
    iv_quantize_result_free(&result);
    heap_free(report.tensor);
    media_list_free(&list);
    return rc;
}

int quantize_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct iv_error e = {0};
    (void)verb;
    int rc = work(s, con, &e);
    return rc == IV_OK ? 0 : console_fail(con, rc, &e);
}

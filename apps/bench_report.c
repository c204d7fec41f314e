// SPDX-License-Identifier: MIT
// What `ivchat bench` prints: a table for people, one JSON object, or CSV (RFC 4180).
//
//   limit   seconds that the counted arithmetic and bytes take at this machine's peaks, part by part the
//           larger of the two
//   share   limit / median; of a decoding step at the rate of reading around it, the median of all steps
//
// Easy to get wrong: the machine changes by the minute, so the peaks are those around the stage; products in bf16
// on a processor without such an instruction are to be held against f32; peaks alone come without an engine.

#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "heap.h"
#include "jsontext.h"
#include "savefile.h"

static double between(double a, double b)
{
    return (a + b) / 2;
}

// Operations a second that products of this engine could reach.
double bench_product_peak(const struct bench *b, const struct iv_peaks *p)
{
    const char *dtype = iv_engine_info(b->work.engine)->dtype;
    if (strcmp(dtype, "int8") == 0 && p->int8_ops > 0)
        return p->int8_ops;
    if (strcmp(dtype, "f32") != 0 && p->bf16_ops > 0)
        return p->bf16_ops;
    return p->f32_ops;
}

// Seconds that the parts take at least at the peaks (the mean of before and after) and when `read` bytes come a second,
// *memory = most of that is reading; 0 without peaks.
static double limit_s(const struct bench *b, const struct bench_row *r, double read, bool *memory)
{
    double peak = between(bench_product_peak(b, &r->before), bench_product_peak(b, &r->after));
    double computing = 0, reading = 0;
    *memory = false;
    if (peak <= 0 || read <= 0)
        return 0;
    for (size_t i = 0; i < r->n_part; i++) {
        double c = r->part[i].flop / peak, m = r->part[i].bytes / read;
        *(c >= m ? &computing : &reading) += c >= m ? c : m;
    }
    *memory = reading > computing;
    return computing + reading;
}

struct line {
    const char *name;
    size_t runs;
    struct summary ms;
    double flop, bytes, gflops, gbs, tokens_per_s, limit_ms, share;
    bool memory;
    struct iv_peaks peaks;
};

// The median of what each run's share is; sets *read to that of the rates.
static double share_of(const struct bench *b, const struct bench_row *r, double median_ms,
                       double *read, bool *memory)
{
    struct samples share = {0};
    *read = between(r->before.read_bytes, r->after.read_bytes);
    bool each = r->read.n > 0 && r->read.n == r->time.n;
    for (size_t i = 0; each && i < r->read.n; i++) {
        double ms = 1e3 * limit_s(b, r, r->read.value[i], memory);
        each = samples_add(&share, r->time.value[i] > 0 ? ms / r->time.value[i] : 0);
    }
    double found = each ? samples_summary(&share).median : 0;
    if (each)
        *read = samples_summary(&r->read).median;
    double ms = 1e3 * limit_s(b, r, *read, memory);
    samples_free(&share);
    return each ? found : median_ms > 0 ? ms / median_ms : 0;
}

static struct line line_of(const struct bench *b, int stage)
{
    const struct bench_row *r = &b->row[stage];
    struct line l = {.name = bench_stage_name[stage],
                     .runs = r->time.n,
                     .ms = samples_summary(&r->time),
                     .peaks = r->before};
    for (size_t i = 0; i < r->n_part; i++) {
        l.flop += r->part[i].flop;
        l.bytes += r->part[i].bytes;
    }
    l.share = share_of(b, r, l.ms.median, &l.peaks.read_bytes, &l.memory);
    l.limit_ms = l.share * l.ms.median;
    if (l.ms.median > 0) {
        l.gflops = l.flop / l.ms.median * 1e-6;
        l.gbs = l.bytes / l.ms.median * 1e-6;
        l.tokens_per_s = 1e3 * r->tokens / l.ms.median;
    }
    l.peaks.f32_ops = between(r->before.f32_ops, r->after.f32_ops);
    l.peaks.bf16_ops = between(r->before.bf16_ops, r->after.bf16_ops);
    l.peaks.int8_ops = between(r->before.int8_ops, r->after.int8_ops);
    return l;
}

static bool shown(const struct bench *b, int stage)
{
    return b->row[stage].wanted && b->row[stage].time.n > 0;
}

// ---- for people

static void write_peaks(struct console *c, const struct iv_peaks *p)
{
    (void)console_print(c, "peaks   %s, %d threads: reading %.1f GB/s, f32 %.0f GFLOP/s", p->cpu,
                        p->n_threads, p->read_bytes * 1e-9, p->f32_ops * 1e-9);
    if (p->bf16_ops > 0)
        (void)console_print(c, ", bf16 %.0f GFLOP/s", p->bf16_ops * 1e-9);
    if (p->int8_ops > 0)
        (void)console_print(c, ", int8 %.0f GOP/s", p->int8_ops * 1e-9);
    (void)console_print(c, "\n");
}

static void cell(char out[16], const char *format, double v)
{
    (void)snprintf(out, 16, v > 0 ? format : "-", v);
}

static void text_line(struct console *c, const struct line *l)
{
    char gflops[16], gbs[16], tokens[16], share[16];
    cell(gflops, "%.1f", l->gflops);
    cell(gbs, "%.2f", l->gbs);
    cell(tokens, "%.2f", l->tokens_per_s);
    cell(share, l->memory ? "%.0f %% mem" : "%.0f %%", 1e2 * l->share);
    (void)console_print(c, "%-17s %5zu %11.3f %11.3f %9.3f %11.3f %9s %8s %9s %9s\n", l->name,
                        l->runs, l->ms.median, l->ms.mean, l->ms.deviation, l->ms.min, gflops, gbs,
                        tokens, share);
}

static int report_text(struct bench *b)
{
    struct console *c = b->work.con;
    if (b->work.engine) {
        const struct iv_engine_info *i = iv_engine_info(b->work.engine);
        (void)console_print(c, "model   %s, %s on %s (%s), %d threads\n", i->name, i->dtype,
                            i->device, i->cpu, i->n_threads);
    }
    if (b->measured)
        write_peaks(c, &b->peaks);
    if (b->profile.wanted)
        bench_profile_text(b);
    if (!b->any)
        return IV_OK;
    (void)console_print(c, "\n%-17s %5s %11s %11s %9s %11s %9s %8s %9s %9s\n", "stage", "runs",
                        "median ms", "mean", "deviation", "least", "GFLOP/s", "GB/s", "tokens/s",
                        "of limit");
    for (int i = 0; i < BENCH_STAGE_N; i++) {
        struct line l = line_of(b, i);
        if (shown(b, i))
            text_line(c, &l);
    }
    return IV_OK;
}

// ---- for programs

static void put_peaks(struct json_writer *j, const char *key, const struct iv_peaks *p)
{
    jw_object(j, key);
    jw_text(j, "cpu", p->cpu);
    jw_int(j, "threads", p->n_threads);
    jw_real(j, "read_gbs", p->read_bytes * 1e-9);
    jw_real(j, "f32_gflops", p->f32_ops * 1e-9);
    jw_real(j, "bf16_gflops", p->bf16_ops * 1e-9);
    jw_real(j, "int8_gops", p->int8_ops * 1e-9);
    jw_end(j);
}

static void put_stage(struct bench *b, struct json_writer *j, int stage)
{
    const struct bench_row *r = &b->row[stage];
    struct line l = line_of(b, stage);
    jw_object(j, NULL);
    jw_text(j, "stage", l.name);
    jw_count(j, "runs", l.runs);
    jw_real(j, "median_ms", l.ms.median);
    jw_real(j, "mean_ms", l.ms.mean);
    jw_real(j, "deviation_ms", l.ms.deviation);
    jw_real(j, "min_ms", l.ms.min);
    jw_real(j, "max_ms", l.ms.max);
    jw_real(j, "flop", l.flop);
    jw_real(j, "bytes", l.bytes);
    jw_real(j, "gflops", l.gflops);
    jw_real(j, "gbs", l.gbs);
    jw_real(j, "tokens_per_s", l.tokens_per_s);
    if (b->measured && l.limit_ms > 0) {
        jw_real(j, "limit_ms", l.limit_ms);
        jw_text(j, "bound", l.memory ? "memory" : "compute");
        jw_real(j, "share", l.share);
    } else {
        jw_null(j, "limit_ms");
        jw_null(j, "bound");
        jw_null(j, "share");
    }
    if (b->measured) {
        jw_real(j, "read_gbs", l.peaks.read_bytes * 1e-9);
        put_peaks(j, "peaks_before", &r->before);
        put_peaks(j, "peaks_after", &r->after);
    }
    jw_array(j, "samples_ms");
    for (size_t i = 0; i < r->time.n; i++)
        jw_real(j, NULL, r->time.value[i]);
    jw_end(j);
    if (r->read.n > 0) {
        jw_array(j, "samples_read_gbs");
        for (size_t i = 0; i < r->read.n; i++)
            jw_real(j, NULL, r->read.value[i] * 1e-9);
        jw_end(j);
    }
    jw_end(j);
}

static int report_json(struct bench *b)
{
    const struct settings *s = &b->settings;
    struct json_writer j;
    jw_begin(&j);
    jw_text(&j, "version", iv_version());
    if (b->work.engine) {
        const struct iv_engine_info *i = iv_engine_info(b->work.engine);
        jw_object(&j, "model");
        jw_text(&j, "name", i->name);
        jw_text(&j, "variant", i->variant);
        jw_text(&j, "type", i->dtype);
        jw_text(&j, "device", i->device);
        jw_text(&j, "cpu", i->cpu);
        jw_int(&j, "threads", i->n_threads);
        jw_count(&j, "file_bytes", i->file_bytes);
        jw_ms(&j, "load_ms", i->load_ms);
        jw_end(&j);
    }
    jw_object(&j, "settings");
    jw_int(&j, "repeat", s->repeat);
    jw_int(&j, "prompt_tokens", s->prompt_tokens);
    jw_int(&j, "context", s->context);
    jw_int(&j, "new_tokens", s->max_new_tokens);
    jw_int(&j, "sessions", s->sessions);
    jw_text(&j, "video", s->video);
    jw_end(&j);
    if (b->measured)
        put_peaks(&j, "peaks", &b->peaks);
    jw_array(&j, "stages");
    for (int i = 0; i < BENCH_STAGE_N; i++) {
        if (shown(b, i))
            put_stage(b, &j, i);
    }
    jw_end(&j);
    if (b->profile.wanted)
        bench_profile_json(b, &j);
    char *text = jw_take(&j);
    if (!text)
        return app_error(&b->work.error, IV_ERR_LIMIT, "out of memory for the JSON line");
    (void)(console_write(b->work.con, text, strlen(text)) && console_write(b->work.con, "\n", 1));
    heap_free(text);
    return IV_OK;
}

static void csv_line(struct console *c, struct line l)
{
    (void)console_print(c, "%s,%zu,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,", l.name,
                        l.runs, l.ms.median, l.ms.mean, l.ms.deviation, l.ms.min, l.ms.max, l.flop,
                        l.bytes, l.gflops, l.gbs, l.tokens_per_s);
    (void)console_print(c, "%.6g,%s,%.6g,%.6g,%.6g,%.6g,%.6g\r\n", l.limit_ms,
                        l.limit_ms <= 0 ? ""
                        : l.memory      ? "memory"
                                        : "compute",
                        l.share, l.peaks.read_bytes * 1e-9, l.peaks.f32_ops * 1e-9,
                        l.peaks.bf16_ops * 1e-9, l.peaks.int8_ops * 1e-9);
}

// --stage peaks alone is a row of that name: there is no engine, and no stage to hold the peaks beside.
static int report_csv(struct bench *b)
{
    struct console *c = b->work.con;
    (void)console_print(
        c, "stage,runs,median_ms,mean_ms,deviation_ms,min_ms,max_ms,flop,bytes,gflops,gbs,"
           "tokens_per_s,limit_ms,bound,share,read_gbs,f32_gflops,bf16_gflops,int8_gops\r\n");
    for (int i = 0; i < BENCH_STAGE_N; i++) {
        if (shown(b, i))
            csv_line(c, line_of(b, i));
    }
    if (!b->any)
        (void)console_print(c, "peaks,,,,,,,,,,,,,,,%.6g,%.6g,%.6g,%.6g\r\n",
                            b->peaks.read_bytes * 1e-9, b->peaks.f32_ops * 1e-9,
                            b->peaks.bf16_ops * 1e-9, b->peaks.int8_ops * 1e-9);
    return IV_OK;
}

int bench_report(struct bench *b)
{
    if (b->settings.json)
        return report_json(b);
    return b->settings.csv ? report_csv(b) : report_text(b);
}

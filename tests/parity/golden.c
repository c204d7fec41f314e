// SPDX-License-Identifier: MIT
// Reads golden/manifest.json, compares and prints one line per comparison.
#include "golden.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool golden_open(struct golden *g, const char *dir, const char *data)
{
    struct err e;
    char path[4200];
    snprintf(g->dir, sizeof g->dir, "%s", dir);
    snprintf(g->data, sizeof g->data, "%s", data);
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    if (js_load(&g->doc, path, (size_t)64 << 20, ERR_FAIL, &e) != 0) {
        fprintf(stderr, "%s\n", e.msg);
        return false;
    }
    return true;
}

void golden_close(struct golden *g)
{
    js_free(&g->doc);
}

size_t golden_count(const struct golden *g)
{
    return js_size(js_get(g->doc.root, "cases"));
}

const js_value *golden_case(const struct golden *g, size_t i)
{
    return js_at(js_get(g->doc.root, "cases"), i);
}

const char *golden_id(const js_value *c)
{
    return js_str(js_get(c, "id"), NULL);
}

const js_value *golden_find(const struct golden *g, const char *id)
{
    for (size_t i = 0; i < golden_count(g); i++)
        if (!strcmp(golden_id(golden_case(g, i)), id))
            return golden_case(g, i);
    return NULL;
}

const char *golden_input(const js_value *c, const char *key, const char *fallback)
{
    const char *s = js_str(js_get(js_get(c, "inputs"), key), NULL);
    return s ? s : fallback;
}

double golden_input_num(const js_value *c, const char *key, double fallback)
{
    double x;
    return js_num(js_get(js_get(c, "inputs"), key), &x) ? x : fallback;
}

const js_value *golden_value(const js_value *c, const char *key)
{
    return js_get(js_get(c, "values"), key);
}

const char *golden_path(const struct golden *g, const char *file, char *out, size_t cap)
{
    snprintf(out, cap, "%s/%s", g->dir, file);
    return out;
}

bool golden_array(const struct golden *g, const js_value *c, const char *name, struct npy *out,
                  double *max_abs, double *cosine)
{
    const js_value *arrays = js_get(c, "arrays");
    for (size_t i = 0; i < js_size(arrays); i++) {
        const js_value *a = js_at(arrays, i), *t = js_get(a, "tolerance");
        char path[4400];
        if (strcmp(js_str(js_get(a, "name"), NULL), name) != 0)
            continue;
        if (max_abs && !js_num(js_get(t, "max_abs"), max_abs))
            *max_abs = js_is_string(t) ? 0 : -1; // "exact"
        if (cosine && !js_num(js_get(t, "cosine"), cosine))
            *cosine = -1;
        return npy_read(out, golden_path(g, js_str(js_get(a, "file"), NULL), path, sizeof path));
    }
    return false;
}

struct distance golden_distance(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    struct distance d = {0, 1, 0};
    for (size_t i = 0; i < n; i++) {
        double x = a[i], y = b[i], diff = fabs(x - y);
        if (!isfinite(x) || !isfinite(y))
            d.n_bad++;
        if (!(diff <= d.max_abs))
            d.max_abs = diff;
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if (aa > 0 && bb > 0)
        d.cosine = ab / sqrt(aa * bb);
    else if (aa != bb)
        d.cosine = 0;
    return d;
}

void report_result(struct golden *g, const char *id, const char *what, bool equal, const char *fmt,
                   ...)
{
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    *(equal ? &g->n_equal : &g->n_different) += 1;
    if (g->tap)
        printf("%s %d - %s %s: %s\n", equal ? "ok" : "not ok", g->n_equal + g->n_different, id,
               what, detail);
    else
        printf("%-24s %-14s %-9s %s\n", id, what, equal ? "equal" : "DIFFERENT", detail);
    fflush(stdout);
}

void report_distance(struct golden *g, const char *id, const char *what, struct distance d,
                     double max_abs, double cosine)
{
    bool equal =
        d.n_bad == 0 && (max_abs < 0 || d.max_abs <= max_abs) && (cosine < 0 || d.cosine >= cosine);
    char limits[96] = "";
    if (max_abs >= 0)
        snprintf(limits, sizeof limits, "<= %.3g", max_abs);
    if (cosine >= 0)
        snprintf(limits + strlen(limits), sizeof limits - strlen(limits), " cosine >= %.10g",
                 cosine);
    report_result(g, id, what, equal, "max-abs %.3g cosine %.10f non-finite %zu (%s)", d.max_abs,
                  d.cosine, d.n_bad, limits);
}

void report_ids(struct golden *g, const char *id, const char *what, const int32_t *a, size_t n_a,
                const int32_t *b, size_t n_b)
{
    size_t i = 0;
    while (i < n_a && i < n_b && a[i] == b[i])
        i++;
    if (i == n_a && i == n_b)
        report_result(g, id, what, true, "%zu ids", n_a);
    else
        report_result(g, id, what, false,
                      "first difference at %zu: %d, expected %d (%zu and %zu ids)", i,
                      i < n_a ? a[i] : -2, i < n_b ? b[i] : -2, n_a, n_b);
}

void report_text(struct golden *g, const char *id, const char *what, const char *a, const char *b)
{
    bool equal = a && b && !strcmp(a, b);
    report_result(g, id, what, equal, equal ? "%zu bytes" : "%zu bytes, not the expected text",
                  a ? strlen(a) : 0);
}

int32_t *golden_ints(const js_value *v, size_t *n)
{
    *n = js_size(v);
    int32_t *out = js_is_array(v) ? calloc(*n + 1, sizeof *out) : NULL;
    for (size_t i = 0; out && i < *n; i++) {
        double x = 0;
        js_num(js_at(v, i), &x);
        out[i] = (int32_t)x;
    }
    return out;
}

int32_t *golden_prompt_ids(const js_value *v, size_t *n)
{
    size_t n_short, k = 0;
    int32_t *s = golden_ints(v, &n_short);
    int32_t *out = s ? calloc(n_short * 96 + 1, sizeof *out) : NULL;
    for (size_t i = 0; out && i < n_short; i++)
        for (int r = 0; r < (s[i] == -96 ? 96 : 1); r++)
            out[k++] = s[i] == -96 ? -1 : s[i];
    free(s);
    *n = k;
    return out;
}

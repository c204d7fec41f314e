// SPDX-License-Identifier: MIT
// Values of one JSON object with limits. What all getters share: an absent or null value leaves the
// default alone, anything of another kind or outside the limits is an error that says
// "FILE: SECTION.KEY is FOUND, expected WHAT".
// Easy to get wrong: comparisons are written so that NaN fails them; strings may hold NUL bytes.
#include "model/section.h"

#include <stdio.h>
#include <string.h>

// What a value is, for messages.
static const char *value_text(const js_value *v, char *out, size_t cap)
{
    double x;
    bool b;
    if (js_is_string(v))
        snprintf(out, cap, "\"%.60s\"", js_str(v, NULL));
    else if (js_num(v, &x))
        snprintf(out, cap, "%.15g", x);
    else if (js_bool(v, &b))
        snprintf(out, cap, "%s", b ? "true" : "false");
    else
        snprintf(out, cap, "%s",
                 js_is_array(v)    ? "an array"
                 : js_is_object(v) ? "an object"
                                   : "null");
    return out;
}

int section_bad(const struct section *s, const char *key, const char *expected, struct err *e)
{
    char have[80];
    return err_set(e, ERR_MODEL, "%s: %s.%s is %s, expected %s", s->file, s->path, key,
                   value_text(js_get(s->o, key), have, sizeof have), expected);
}

int section_open(const struct section *in, const char *key, const char *path, struct section *out,
                 struct err *e)
{
    const js_value *v = js_get(in->o, key);
    *out = (struct section){in->file, path, NULL};
    if (js_is_null(v))
        return 0;
    if (!js_is_object(v))
        return section_bad(in, key, "an object", e);
    out->o = v;
    return 0;
}

int section_size(const struct section *s, const char *key, size_t lo, size_t hi, size_t *x,
                 struct err *e)
{
    const js_value *v = js_get(s->o, key);
    uint64_t u;
    char want[64];
    if (js_is_null(v))
        return 0;
    snprintf(want, sizeof want, "an integer from %zu to %zu", lo, hi);
    if (!js_u64(v, &u) || u < lo || u > hi)
        return section_bad(s, key, want, e);
    *x = (size_t)u;
    return 0;
}

int section_num(const struct section *s, const char *key, double lo, double hi, double *x,
                struct err *e)
{
    const js_value *v = js_get(s->o, key);
    double d;
    char want[64];
    if (js_is_null(v))
        return 0;
    snprintf(want, sizeof want, "a number from %g to %g", lo, hi);
    if (!js_num(v, &d) || !(d >= lo && d <= hi))
        return section_bad(s, key, want, e);
    *x = d;
    return 0;
}

int section_eps(const struct section *s, const char *key, float *x, struct err *e)
{
    double d = (double)*x;
    int rc = section_num(s, key, 1e-30, 0.1, &d, e);
    *x = (float)d;
    return rc;
}

int section_bool(const struct section *s, const char *key, bool *x, struct err *e)
{
    const js_value *v = js_get(s->o, key);
    return js_is_null(v) || js_bool(v, x) ? 0 : section_bad(s, key, "true or false", e);
}

// A switch that the code has only one position of.
int section_want_bool(const struct section *s, const char *key, bool want, struct err *e)
{
    bool x = want;
    int rc = section_bool(s, key, &x, e);
    return rc != 0 || x == want ? rc : section_bad(s, key, want ? "true" : "false", e);
}

// *x borrowed from the document.
int section_str(const struct section *s, const char *key, const char **x, struct err *e)
{
    const js_value *v = js_get(s->o, key);
    size_t n;
    const char *p = js_str(v, &n);
    if (js_is_null(v))
        return 0;
    if (!p || strlen(p) != n)
        return section_bad(s, key, "a string", e);
    *x = p;
    return 0;
}

int section_want_str(const struct section *s, const char *key, const char *want, struct err *e)
{
    const char *x = want;
    char text[64];
    int rc = section_str(s, key, &x, e);
    snprintf(text, sizeof text, "\"%s\"", want);
    return rc != 0 || strcmp(x, want) == 0 ? rc : section_bad(s, key, text, e);
}

int section_divides(const struct section *s, const char *what, size_t a, const char *by, size_t b,
                    struct err *e)
{
    if (a % b == 0)
        return 0;
    return err_set(e, ERR_MODEL, "%s: %s: %s %zu is not divisible by %s %zu", s->file, s->path,
                   what, a, by, b);
}

bool section_has(const struct section *s, const char *key)
{
    return !js_is_null(js_get(s->o, key));
}

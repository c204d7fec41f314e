// SPDX-License-Identifier: MIT
// Types and ranges of a request's members. Easy to get wrong: 3.0 is a whole number to people who write JSON by
// machine; what is silently ignored is an answer to another question, so it is refused.

#include "fieldcheck.h"

#include <math.h>
#include <string.h>

int field_int(const struct json_t *in, const char *key, int64_t least, int64_t most, int *out,
              struct refusal *r)
{
    const struct json_t *v = jt_member(in, key);
    enum jt_kind kind = jt_kind_of(v);
    double real = kind == JT_REAL ? jt_number(v) : 0;
    if (kind == JT_NONE)
        return 0;
    if (kind == JT_REAL && real == rint(real) && fabs(real) < 1e9)
        kind = JT_INT;
    int64_t whole = jt_kind_of(v) == JT_REAL ? (kind == JT_INT ? (int64_t)real : 0) : jt_int(v);
    if (kind != JT_INT || whole < least || whole > most)
        return refuse(r, 400, "invalid_value", key, "%s: expected a whole number in [%lld,%lld]",
                      key, (long long)least, (long long)most);
    *out = (int)whole;
    return 0;
}

int field_real(const struct json_t *in, const char *key, double least, double most, double *out,
               struct refusal *r)
{
    const struct json_t *v = jt_member(in, key);
    enum jt_kind kind = jt_kind_of(v);
    if (kind == JT_NONE)
        return 0;
    double x = kind == JT_INT || kind == JT_REAL ? jt_number(v) : NAN;
    if (!(x >= least && x <= most))
        return refuse(r, 400, "invalid_value", key, "%s: expected a number in [%g,%g]", key, least,
                      most);
    *out = x;
    return 0;
}

int field_flag(const struct json_t *in, const char *key, bool *out, struct refusal *r)
{
    const struct json_t *v = jt_member(in, key);
    if (jt_kind_of(v) == JT_NONE)
        return 0;
    if (jt_kind_of(v) != JT_FLAG)
        return refuse(r, 400, "invalid_type", key, "%s: expected true or false", key);
    *out = jt_flag(v);
    return 0;
}

int field_text(const struct json_t *in, const char *key, size_t max, const char **out,
               struct refusal *r)
{
    const struct json_t *v = jt_member(in, key);
    size_t n;
    if (jt_kind_of(v) == JT_NONE)
        return 0;
    if (jt_kind_of(v) != JT_TEXT)
        return refuse(r, 400, "invalid_type", key, "%s: expected a string", key);
    const char *text = jt_text(v, &n);
    if (n > max)
        return refuse(r, 400, "string_above_max_length", key,
                      "%s: %zu bytes, at most %zu are accepted", key, n, max);
    *out = text;
    return 0;
}

int field_map(const struct json_t *in, const char *key, const struct json_t **out,
              struct refusal *r)
{
    const struct json_t *v = jt_member(in, key);
    *out = NULL;
    if (jt_kind_of(v) == JT_NONE)
        return 0;
    if (jt_kind_of(v) != JT_MAP)
        return refuse(r, 400, "invalid_type", key, "%s: expected an object", key);
    *out = v;
    return 0;
}

int field_unsupported(const struct json_t *in, const char *key, struct refusal *r)
{
    const struct json_t *v = jt_member(in, key);
    bool idle = true;
    switch (jt_kind_of(v)) {
    case JT_NONE:
        break;
    case JT_TEXT:
        idle = !*jt_text(v, NULL) || strcmp(jt_text(v, NULL), "none") == 0;
        break;
    case JT_INT:
    case JT_REAL:
        idle = jt_number(v) == 0;
        break;
    case JT_FLAG:
        idle = !jt_flag(v);
        break;
    case JT_LIST:
    case JT_MAP:
        idle = jt_count(v) == 0;
        break;
    }
    return idle ? 0
                : refuse(r, 400, "unsupported_parameter", key, "%s: this server does not do that",
                         key);
}

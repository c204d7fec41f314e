// SPDX-License-Identifier: MIT
// Named values of a GGUF file, with limits. Whatever number type a writer chose is taken when the value
// fits; anything else is an error "FILE: KEY is FOUND, expected WHAT".
//
// Easy to get wrong: values lie at any address; comparisons are written so that NaN fails them.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "weights/gguf.h"

const struct gguf_value *gguf_find(const struct gguf_file *f, const char *key)
{
    for (size_t i = 0; i < f->n_value; i++)
        if (gguf_text_is(f->value[i].key, key))
            return &f->value[i];
    return NULL;
}

bool gguf_text_is(struct gguf_text t, const char *s)
{
    return t.n == strlen(s) && memcmp(t.p, s, t.n) == 0;
}

struct gguf_text gguf_next_text(const uint8_t **at)
{
    uint64_t n;
    memcpy(&n, *at, sizeof n);
    struct gguf_text t = {(const char *)*at + sizeof n, (size_t)n};
    *at += sizeof n + n;
    return t;
}

#define READ(type, p)                                                                              \
    do {                                                                                           \
        type v_;                                                                                   \
        memcpy(&v_, p, sizeof v_);                                                                 \
        *out = v_;                                                                                 \
    } while (0)

static bool as_integer(const struct gguf_value *v, int64_t *out)
{
    uint64_t u;
    switch (v->type) {
    case GGUF_U8:
        READ(uint8_t, v->data);
        return true;
    case GGUF_I8:
        READ(int8_t, v->data);
        return true;
    case GGUF_U16:
        READ(uint16_t, v->data);
        return true;
    case GGUF_I16:
        READ(int16_t, v->data);
        return true;
    case GGUF_U32:
        READ(uint32_t, v->data);
        return true;
    case GGUF_I32:
        READ(int32_t, v->data);
        return true;
    case GGUF_I64:
        READ(int64_t, v->data);
        return true;
    case GGUF_U64:
        memcpy(&u, v->data, sizeof u);
        *out = (int64_t)u;
        return u <= INT64_MAX;
    default:
        return false;
    }
}

static bool as_real(const struct gguf_value *v, double *out)
{
    int64_t i;
    if (v->type == GGUF_F32) {
        float x;
        memcpy(&x, v->data, sizeof x);
        *out = (double)x;
        return true;
    }
    if (v->type == GGUF_F64) {
        READ(double, v->data);
        return true;
    }
    if (!as_integer(v, &i))
        return false;
    *out = (double)i;
    return true;
}

static int bad(const struct gguf_file *f, const char *key, const struct gguf_value *v,
               const char *expected, struct err *e)
{
    char have[64];
    double x;
    if (!v)
        return err_set(e, ERR_MODEL, "%s: %s is missing, expected %s", f->path, key, expected);
    if (v->type == GGUF_ARRAY)
        snprintf(have, sizeof have, "an array of %zu %s", v->n, gguf_type_name(v->item));
    else if (as_real(v, &x))
        snprintf(have, sizeof have, "%.17g", x);
    else
        snprintf(have, sizeof have, "a %s", gguf_type_name(v->type));
    return err_set(e, ERR_MODEL, "%s: %s is %s, expected %s", f->path, key, have, expected);
}

int gguf_get_size(const struct gguf_file *f, const char *key, bool needed, size_t low, size_t high,
                  size_t *out, struct err *e)
{
    char want[80];
    int64_t i;
    const struct gguf_value *v = gguf_find(f, key);
    if (!v && !needed)
        return 0;
    snprintf(want, sizeof want, "an integer from %zu to %zu", low, high);
    if (!v || !as_integer(v, &i) || i < 0 || (uint64_t)i < low || (uint64_t)i > high)
        return bad(f, key, v, want, e);
    *out = (size_t)i;
    return 0;
}

int gguf_get_real(const struct gguf_file *f, const char *key, bool needed, double low, double high,
                  double *out, struct err *e)
{
    char want[80];
    double x;
    const struct gguf_value *v = gguf_find(f, key);
    if (!v && !needed)
        return 0;
    snprintf(want, sizeof want, "a number from %g to %g", low, high);
    if (!v || !as_real(v, &x) || !(x >= low && x <= high))
        return bad(f, key, v, want, e);
    *out = x;
    return 0;
}

int gguf_get_bool(const struct gguf_file *f, const char *key, bool needed, bool *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(f, key);
    if (!v && !needed)
        return 0;
    if (!v || v->type != GGUF_BOOL)
        return bad(f, key, v, "true or false", e);
    *out = v->data[0] != 0;
    return 0;
}

int gguf_get_text(const struct gguf_file *f, const char *key, bool needed, struct gguf_text *out,
                  struct err *e)
{
    const struct gguf_value *v = gguf_find(f, key);
    if (!v && !needed)
        return 0;
    if (!v || v->type != GGUF_STRING)
        return bad(f, key, v, "a string", e);
    const uint8_t *at = v->data;
    *out = gguf_next_text(&at);
    return 0;
}

int gguf_get_array(const struct gguf_file *f, const char *key, bool needed, enum gguf_type item,
                   const struct gguf_value **out, struct err *e)
{
    char want[48];
    const struct gguf_value *v = gguf_find(f, key);
    *out = NULL;
    if (!v && !needed)
        return 0;
    snprintf(want, sizeof want, "an array of %s", gguf_type_name(item));
    if (!v || v->type != GGUF_ARRAY || v->item != item)
        return bad(f, key, v, want, e);
    *out = v;
    return 0;
}

// SPDX-License-Identifier: MIT
// One JSON object of config.json, read value by value with limits.
#ifndef IV_MODEL_SECTION_H
#define IV_MODEL_SECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

// Borrows everything. o NULL = the object is absent: every getter then leaves its default alone.
struct section {
    const char *file, *path; // for messages: "config.json", "model_config.llm"
    const js_value *o;
};

// All return 0 or ERR_MODEL; *x is changed only when the value is there and good.

// The object `key` of `in`; out->o is NULL when it is absent. path names it in messages.
int section_open(const struct section *in, const char *key, const char *path, struct section *out,
                 struct err *e);
int section_size(const struct section *s, const char *key, size_t lo, size_t hi, size_t *x,
                 struct err *e);
int section_num(const struct section *s, const char *key, double lo, double hi, double *x,
                struct err *e);
// A norm's epsilon, 1e-30 to 0.1.
int section_eps(const struct section *s, const char *key, float *x, struct err *e);
int section_bool(const struct section *s, const char *key, bool *x, struct err *e);
// *x is borrowed from the document.
int section_str(const struct section *s, const char *key, const char **x, struct err *e);
// A switch of which the code knows only one position.
int section_want_bool(const struct section *s, const char *key, bool want, struct err *e);
int section_want_str(const struct section *s, const char *key, const char *want, struct err *e);
// Present and not null.
bool section_has(const struct section *s, const char *key);

// Errors: the value of key is not what was expected; a (called what) is not divisible by b.
int section_bad(const struct section *s, const char *key, const char *expected, struct err *e);
int section_divides(const struct section *s, const char *what, size_t a, const char *by, size_t b,
                    struct err *e);

#endif

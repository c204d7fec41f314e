// SPDX-License-Identifier: MIT
// Strict JSON reading: the library's one door to jansson. Duplicate keys, trailing bytes, invalid
// UTF-8, a NUL in a key, numbers out of range, nesting beyond jansson's 2048 levels, more than JS_VALUE_MAX
// values (some 270 MB once parsed) and anything but an object or array at the top are errors. Getters
// accept NULL, so that they can be chained.
#ifndef IV_BASE_JSON_H
#define IV_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// A borrowed view of a value; valid as long as its document.
typedef struct json_t js_value; // jansson's own type, opaque here

enum { JS_VALUE_MAX = 1 << 20 };

struct js_doc {
    js_value *root;
};

// Parses n bytes. code = error code for messages, `name` = file name in them.
int js_parse(struct js_doc *d, const char *text, size_t n, const char *name, int code,
             struct err *e);
// The same, but every number becomes a real (js_u64 fails, js_num works): for files that hold integers
// beyond 64 bits, as tokenizer_config.json does.
int js_parse_reals(struct js_doc *d, const char *text, size_t n, const char *name, int code,
                   struct err *e);
// file_read, then js_parse with the path as name.
int js_load(struct js_doc *d, const char *path, size_t max_bytes, int code, struct err *e);
void js_free(struct js_doc *d);

// Object member or NULL (also when o is no object or NULL).
const js_value *js_get(const js_value *o, const char *key);
bool js_is_object(const js_value *v);
bool js_is_array(const js_value *v);
bool js_is_string(const js_value *v);
bool js_is_null(const js_value *v); // true for NULL too: absent and null mean the same to us
// Number of elements of an array or members of an object, else 0.
size_t js_size(const js_value *v);
const js_value *js_at(const js_value *array, size_t i);
// String bytes (may hold NUL) or NULL; *n gets the length.
const char *js_str(const js_value *v, size_t *n);
// false if v is not of that kind; integers must be exact and within the type.
bool js_u64(const js_value *v, uint64_t *out);
bool js_num(const js_value *v, double *out); // integer or real
bool js_bool(const js_value *v, bool *out);

// Members in file order: for (it = js_iter(o); it; it = js_next(o, it)) ...
void *js_iter(const js_value *o);
void *js_next(const js_value *o, void *it);
const char *js_iter_key(void *it, size_t *n);
const js_value *js_iter_value(void *it);

#endif

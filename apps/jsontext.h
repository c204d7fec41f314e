// SPDX-License-Identifier: MIT
// JSON of the command line: objects written key by key, and the lines that `tokenize` reads. The
// one door of apps/ to jansson.
#ifndef IV_APPS_JSONTEXT_H
#define IV_APPS_JSONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_t; // jansson's

enum { JSON_DEPTH = 16 };

// Makes one object, keys in the order of the calls. Failure (memory) is sticky and told by jw_take.
// In an array key is NULL.
struct json_writer {
    struct json_t *open[JSON_DEPTH]; // [0] is the object itself
    unsigned depth;
    bool failed;
};

void jw_begin(struct json_writer *w);
void jw_object(struct json_writer *w, const char *key); // until jw_end
void jw_array(struct json_writer *w, const char *key);  // until jw_end
void jw_end(struct json_writer *w);
// n bytes, invalid UTF-8 becomes U+FFFD; s NULL = null.
void jw_text_n(struct json_writer *w, const char *key, const char *s, size_t n);
void jw_text(struct json_writer *w, const char *key, const char *s);
void jw_count(struct json_writer *w, const char *key, uint64_t v);
void jw_int(struct json_writer *w, const char *key, int64_t v);
void jw_real(struct json_writer *w, const char *key, double v); // NaN and infinity = null
void jw_ms(struct json_writer *w, const char *key, double ms);  // rounded to a microsecond
void jw_flag(struct json_writer *w, const char *key, bool v);
void jw_null(struct json_writer *w, const char *key);
// The object as one line without newline, the caller's (heap_free); NULL = out of memory. The
// writer is empty afterwards.
char *jw_take(struct json_writer *w);

// A JSON string as its bytes (may hold NUL) in *text, the caller's (heap_free). 0, or -1 with the
// reason in why.
int jsontext_parse_text(const char *line, size_t n, char **text, size_t *len, char why[160]);
// A JSON array of whole numbers of 32 bits; *ids is the caller's (heap_free).
int jsontext_parse_ids(const char *line, size_t n, int32_t **ids, size_t *len, char why[160]);
// n bytes of valid UTF-8 as a JSON string, the caller's (heap_free); NULL = out of memory.
char *jsontext_quote(const char *s, size_t n);

// ---- reading requests: bounded before jansson takes memory

struct jt_limits {
    size_t values, depth;
};
// One JSON value; no duplicate keys, valid UTF-8, no U+0000 in it. NULL with the reason in why; else
// to jt_drop.
struct json_t *jt_read(const char *text, size_t n, const struct jt_limits *limits, char why[160]);
void jt_drop(struct json_t *v); // NULL is allowed

enum jt_kind { JT_NONE, JT_TEXT, JT_INT, JT_REAL, JT_FLAG, JT_LIST, JT_MAP };
// JT_NONE: NULL or null.
enum jt_kind jt_kind_of(const struct json_t *v);
// NULL when v is no object or has no such member.
const struct json_t *jt_member(const struct json_t *v, const char *key);
// Members of an object or elements of a list; 0 for anything else.
size_t jt_count(const struct json_t *v);
const struct json_t *jt_item(const struct json_t *v, size_t i);
// "" when v is no string; n may be NULL. The text lives as long as v.
const char *jt_text(const struct json_t *v, size_t *n);
double jt_number(const struct json_t *v); // of JT_INT and JT_REAL
int64_t jt_int(const struct json_t *v);   // of JT_INT
bool jt_flag(const struct json_t *v);

#endif

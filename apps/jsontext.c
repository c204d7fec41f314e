// SPDX-License-Identifier: MIT
// JSON in and out, with jansson behind it.
//
// Paths are bytes and may be invalid UTF-8, which JSON cannot hold: every ill-formed byte becomes
// U+FFFD.
//
// U+0085, U+2028 and U+2029 may stand in a JSON string as they are, but many readers take them
// for the end of a line: they are escaped, so that a line is a line for everyone.
//
// Easy to get wrong: jansson's dump gives 17 digits (0.59999999999999998); 15 are asked for, and
// times are rounded before. A line with a second value behind the first is an error, not two
// values.

#include "jsontext.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "heap.h"
#include "wellformed.h"

enum { VALUES_MAX = 1 << 22 };

static json_t *scrubbed(const char *s, size_t n)
{
    json_t *v = json_stringn(s, n);
    if (v)
        return v;
    char *copy = heap_calloc(n, 3), *to = copy; // U+FFFD takes three bytes
    if (!copy)
        return NULL;
    for (size_t i = 0; i < n;) {
        size_t len = wellformed_sequence(s + i, n - i);
        memcpy(to, len ? s + i : "\xef\xbf\xbd", len ? len : 3);
        to += len ? len : 3;
        i += len ? len : 1;
    }
    v = json_stringn(copy, (size_t)(to - copy));
    heap_free(copy);
    return v;
}

// v as one line, the caller's (heap_free); NULL = out of memory or v is NULL.
static char *dump(const json_t *v, size_t flags)
{
    static const char *const breaks[][2] = {
        {"\xc2\x85", "\\u0085"}, {"\xe2\x80\xa8", "\\u2028"}, {"\xe2\x80\xa9", "\\u2029"}};
    char *line = v ? json_dumps(v, flags | JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    size_t n = 0;
    if (!line)
        return NULL;
    for (size_t b = 0; b < 3; b++) {
        for (const char *p = line; (p = strstr(p, breaks[b][0])); p++)
            n++;
    }
    if (n == 0)
        return line; // jansson's default allocator is the one heap_free releases to
    char *out = heap_calloc(strlen(line) + 4 * n + 1, 1), *to = out;
    for (const char *p = line; out && *p;) {
        size_t b = 0;
        while (b < 3 && strncmp(p, breaks[b][0], strlen(breaks[b][0])) != 0)
            b++;
        if (b < 3) {
            memcpy(to, breaks[b][1], 6);
            to += 6;
            p += strlen(breaks[b][0]);
        } else {
            *to++ = *p++;
        }
    }
    heap_free(line);
    return out;
}

// Hands v over to the innermost open value; false when that failed.
static bool put(struct json_writer *w, const char *key, json_t *v)
{
    json_t *in = w->open[w->depth];
    int rc = key ? json_object_set_new(in, key, v) : json_array_append_new(in, v);
    if (rc != 0)
        w->failed = true;
    return rc == 0;
}

void jw_begin(struct json_writer *w)
{
    *w = (struct json_writer){0};
    w->open[0] = json_object();
    w->failed = !w->open[0];
}

static void enter(struct json_writer *w, const char *key, json_t *v)
{
    if (w->depth + 1 >= JSON_DEPTH) {
        json_decref(v);
        w->failed = true;
    } else {
        v = put(w, key, v) ? v : NULL;
        w->open[++w->depth] = v;
    }
}

void jw_object(struct json_writer *w, const char *key)
{
    enter(w, key, json_object());
}

void jw_array(struct json_writer *w, const char *key)
{
    enter(w, key, json_array());
}

void jw_end(struct json_writer *w)
{
    if (w->depth > 0)
        w->depth--;
}

void jw_text_n(struct json_writer *w, const char *key, const char *s, size_t n)
{
    (void)put(w, key, s ? scrubbed(s, n) : json_null());
}

void jw_text(struct json_writer *w, const char *key, const char *s)
{
    jw_text_n(w, key, s, s ? strlen(s) : 0);
}

void jw_count(struct json_writer *w, const char *key, uint64_t v)
{
    (void)put(w, key, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

void jw_int(struct json_writer *w, const char *key, int64_t v)
{
    (void)put(w, key, json_integer(v));
}

void jw_real(struct json_writer *w, const char *key, double v)
{
    (void)put(w, key, isfinite(v) ? json_real(v) : json_null());
}

void jw_ms(struct json_writer *w, const char *key, double ms)
{
    jw_real(w, key, rint(ms * 1000) / 1000);
}

void jw_flag(struct json_writer *w, const char *key, bool v)
{
    (void)put(w, key, json_boolean(v));
}

void jw_null(struct json_writer *w, const char *key)
{
    (void)put(w, key, json_null());
}

char *jw_take(struct json_writer *w)
{
    char *line = w->failed ? NULL : dump(w->open[0], 0);
    json_decref(w->open[0]);
    *w = (struct json_writer){0};
    return line;
}

// More than this many values? jansson takes up to 270 bytes for two bytes of text ("[],[],..."). Each
// value but the first follows one of [ { , : and a string, which may hold many of them, is one value.
static bool too_many_values(const char *line, size_t n)
{
    size_t count = 1, i = 0;
    while (i < n && strchr(" \t\r", line[i]))
        i++;
    if (i < n && line[i] == '"')
        return false;
    for (; i < n; i++)
        count += line[i] == '[' || line[i] == '{' || line[i] == ',' || line[i] == ':';
    return count > VALUES_MAX;
}

static json_t *parse(const char *line, size_t n, char why[160])
{
    json_error_t e;
    if (too_many_values(line, n)) {
        (void)snprintf(why, 160, "more than %d values", VALUES_MAX);
        return NULL;
    }
    json_t *v = json_loadb(line, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
    if (!v)
        (void)snprintf(why, 160, "%.120s (column %d)", e.text, e.column);
    return v;
}

int jsontext_parse_text(const char *line, size_t n, char **text, size_t *len, char why[160])
{
    *text = NULL;
    *len = 0;
    json_t *v = parse(line, n, why);
    if (!v)
        return -1;
    if (!json_is_string(v)) {
        (void)snprintf(why, 160, "expected a JSON string");
    } else {
        size_t bytes = json_string_length(v);
        *text = heap_calloc(bytes + 1, 1);
        if (*text) {
            memcpy(*text, json_string_value(v), bytes);
            *len = bytes;
        } else {
            (void)snprintf(why, 160, "out of memory");
        }
    }
    json_decref(v);
    return *text ? 0 : -1;
}

int jsontext_parse_ids(const char *line, size_t n, int32_t **ids, size_t *len, char why[160])
{
    *ids = NULL;
    *len = 0;
    json_t *v = parse(line, n, why);
    if (!v)
        return -1;
    size_t count = json_array_size(v);
    int32_t *out = NULL;
    if (!json_is_array(v)) {
        (void)snprintf(why, 160, "expected a JSON array of token ids");
        goto done;
    }
    out = heap_calloc(count, sizeof *out);
    if (!out) {
        (void)snprintf(why, 160, "out of memory");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(v, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < INT32_MIN || id > INT32_MAX) {
            (void)snprintf(why, 160, "element %zu is not a token id", i);
            heap_free(out);
            out = NULL;
            goto done;
        }
        out[i] = (int32_t)id;
    }
    *len = count;
done:
    json_decref(v);
    *ids = out;
    return out ? 0 : -1;
}

char *jsontext_quote(const char *s, size_t n)
{
    json_t *v = scrubbed(s, n);
    char *line = dump(v, JSON_ENCODE_ANY);
    json_decref(v);
    return line;
}

// Values and depth by the characters outside of strings, so that jansson (some 100 bytes a value, one
// recursion a level) is asked only for what is bounded.
static bool within(const char *text, size_t n, const struct jt_limits *limits)
{
    size_t values = 1, depth = 0;
    bool inside = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (inside) {
            i += c == '\\';
            inside = c != '"';
            continue;
        }
        inside = c == '"';
        values += c == '[' || c == '{' || c == ',' || c == ':';
        depth += c == '[' || c == '{';
        if (depth > limits->depth || values > limits->values)
            return false;
        if ((c == ']' || c == '}') && depth > 0)
            depth--;
    }
    return true;
}

struct json_t *jt_read(const char *text, size_t n, const struct jt_limits *limits, char why[160])
{
    json_error_t e;
    if (!within(text, n, limits)) {
        (void)snprintf(why, 160, "more than %zu values or %zu levels", limits->values,
                       limits->depth);
        return NULL;
    }
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
    if (!v) {
        // jansson's text may quote the input, up to the limit of its buffer; the cause comes first
        const char *near = strstr(e.text, " near ");
        bool nul =
            json_error_code(&e) == json_error_null_character; // told by the name of an option
        (void)snprintf(why, 160, "%.*s (line %d, column %d)",
                       (int)(near ? (size_t)(near - e.text) : strcspn(e.text, "'")),
                       nul ? "\\u0000 is not accepted" : e.text, e.line, e.column);
        for (char *p = why; *p; p++)
            *p = (unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e ? '?' : *p;
    }
    return v;
}

void jt_drop(struct json_t *v)
{
    json_decref(v);
}

enum jt_kind jt_kind_of(const struct json_t *v)
{
    static const enum jt_kind kinds[] = {
        [JSON_OBJECT] = JT_MAP,  [JSON_ARRAY] = JT_LIST, [JSON_STRING] = JT_TEXT,
        [JSON_INTEGER] = JT_INT, [JSON_REAL] = JT_REAL,  [JSON_TRUE] = JT_FLAG,
        [JSON_FALSE] = JT_FLAG,  [JSON_NULL] = JT_NONE,
    };
    return v ? kinds[json_typeof(v)] : JT_NONE;
}

const struct json_t *jt_member(const struct json_t *v, const char *key)
{
    return json_object_get(v, key);
}

size_t jt_count(const struct json_t *v)
{
    return json_is_object(v) ? json_object_size(v) : json_array_size(v);
}

const struct json_t *jt_item(const struct json_t *v, size_t i)
{
    return json_array_get(v, i);
}

const char *jt_text(const struct json_t *v, size_t *n)
{
    const char *text = json_string_value(v);
    if (n)
        *n = json_string_length(v);
    return text ? text : "";
}

double jt_number(const struct json_t *v)
{
    return json_number_value(v);
}

int64_t jt_int(const struct json_t *v)
{
    return json_integer_value(v);
}

bool jt_flag(const struct json_t *v)
{
    return json_is_true(v);
}

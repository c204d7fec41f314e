// SPDX-License-Identifier: MIT
// jansson behind our error convention. jansson itself refuses invalid UTF-8, lone surrogates,
// numbers that overflow and nesting deeper than 2048. It takes up to 270 bytes for two bytes of text
// ("[],[],..."), so the values are counted before it starts.
#include "base/json.h"

#include <jansson.h>
#include <string.h>

#include "base/filemap.h"
#include "base/mem.h"

// An upper bound of the number of values: each but the first follows one of [ { , : outside strings.
static size_t count_values(const char *text, size_t n)
{
    size_t count = 1;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == ',' || c == ':' || c == '[' || c == '{'))
            count++;
    }
    return count;
}

static int parse(struct js_doc *d, const char *text, size_t n, const char *name, size_t flags,
                 int code, struct err *e)
{
    json_error_t je;
    d->root = NULL;
    size_t n_value = count_values(text, n);
    if (n_value > JS_VALUE_MAX)
        return err_set(e, code, "%s: %zu JSON values, at most %d are accepted", name, n_value,
                       JS_VALUE_MAX);
    d->root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | flags, &je);
    if (!d->root && json_error_code(&je) == json_error_out_of_memory)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu bytes of JSON", name, n);
    if (!d->root)
        return err_set(e, code, "%s: invalid JSON at line %d column %d (byte %d): %s", name,
                       je.line, je.column, je.position, je.text);
    return 0;
}

int js_parse(struct js_doc *d, const char *text, size_t n, const char *name, int code,
             struct err *e)
{
    return parse(d, text, n, name, 0, code, e);
}

int js_parse_reals(struct js_doc *d, const char *text, size_t n, const char *name, int code,
                   struct err *e)
{
    return parse(d, text, n, name, JSON_DECODE_INT_AS_REAL, code, e);
}

int js_load(struct js_doc *d, const char *path, size_t max_bytes, int code, struct err *e)
{
    char *text;
    size_t n;
    d->root = NULL;
    int rc = file_read(path, max_bytes, code, &text, &n, e);
    if (rc != 0)
        return rc;
    rc = js_parse(d, text, n, path, code, e);
    mem_free(text);
    return rc;
}

void js_free(struct js_doc *d)
{
    json_decref(d->root);
    d->root = NULL;
}

const js_value *js_get(const js_value *o, const char *key)
{
    return o ? json_object_get(o, key) : NULL;
}

bool js_is_object(const js_value *v)
{
    return v && json_typeof(v) == JSON_OBJECT;
}

bool js_is_array(const js_value *v)
{
    return v && json_typeof(v) == JSON_ARRAY;
}

bool js_is_string(const js_value *v)
{
    return v && json_typeof(v) == JSON_STRING;
}

bool js_is_null(const js_value *v)
{
    return !v || json_typeof(v) == JSON_NULL;
}

size_t js_size(const js_value *v)
{
    return js_is_array(v) ? json_array_size(v) : js_is_object(v) ? json_object_size(v) : 0;
}

const js_value *js_at(const js_value *array, size_t i)
{
    return array ? json_array_get(array, i) : NULL;
}

const char *js_str(const js_value *v, size_t *n)
{
    if (!js_is_string(v))
        return NULL;
    if (n)
        *n = json_string_length(v);
    return json_string_value(v);
}

bool js_u64(const js_value *v, uint64_t *out)
{
    if (!v || json_typeof(v) != JSON_INTEGER || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

bool js_num(const js_value *v, double *out)
{
    if (!v || (json_typeof(v) != JSON_INTEGER && json_typeof(v) != JSON_REAL))
        return false;
    *out = json_number_value(v);
    return true;
}

bool js_bool(const js_value *v, bool *out)
{
    if (!v || (json_typeof(v) != JSON_TRUE && json_typeof(v) != JSON_FALSE))
        return false;
    *out = json_typeof(v) == JSON_TRUE;
    return true;
}

void *js_iter(const js_value *o)
{
    return js_is_object(o) ? json_object_iter((json_t *)(uintptr_t)o) : NULL;
}

void *js_next(const js_value *o, void *it)
{
    return json_object_iter_next((json_t *)(uintptr_t)o, it);
}

const char *js_iter_key(void *it, size_t *n)
{
    const char *k = json_object_iter_key(it);
    if (n)
        *n = strlen(k);
    return k;
}

const js_value *js_iter_value(void *it)
{
    return json_object_iter_value(it);
}

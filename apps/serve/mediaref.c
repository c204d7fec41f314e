// SPDX-License-Identifier: MIT
// Every way to write a video or an image in a message (docs/SERVER.md lists them):
//
//   {"type":"video_url","video_url":{"url":U}}          also with the string U in place of the object
//   {"type":"input_video","input_video":{"data"|"url"|"path":T}}        or a string: a URL, else base64
//   {"type":"video","video":{"path":P}}                 or {"type":"video","id":I}
//   {"type":"image_url",...} {"type":"input_image",...} {"type":"image",...}             the same
//   U: data:TYPE;base64,... | data:video/jpeg;base64,JPG,JPG | file:///P | https://...
//   "uuid" beside it names the item for later; with a null url it means the one named before
//
// Easy to get wrong: schemes are compared without case; "data:" without ";base64" is refused, not guessed; a
// percent-encoded NUL or slash in a file URL would give two readers two paths; commas are counted before anything
// is decoded.

#include "mediaref.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "heap.h"

static bool begins(const char *s, size_t n, const char *with)
{
    size_t m = strlen(with);
    return n >= m && strncasecmp(s, with, m) == 0;
}

bool mediaref_type(const char *type, bool *image)
{
    static const char *const names[][2] = {
        {"video_url", "image_url"}, {"input_video", "input_image"}, {"video", "image"}};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 2; k++) {
            if (strcmp(type, names[i][k]) == 0) {
                *image = k == 1;
                return true;
            }
        }
    }
    return false;
}

static int bad(const struct mediaref *m, struct refusal *r, const char *why)
{
    return refuse(r, 400, "invalid_media", m->where, "%s: %s", m->where, why);
}

// data:[TYPE][;PARAM]*;base64,BYTES
static int read_data(struct mediaref *m, const char *url, size_t n, struct refusal *r)
{
    const char *comma = memchr(url, ',', n);
    size_t head = comma ? (size_t)(comma - url) : 0;
    if (!comma || head > 200)
        return bad(m, r, "a data URL is data:TYPE;base64,BYTES");
    if (head < 12 || strncasecmp(comma - 7, ";base64", 7) != 0)
        return bad(m, r, "a data URL must be base64");
    m->text = comma + 1;
    m->n = n - head - 1;
    m->from = MEDIAREF_DATA;
    if (!m->image && begins(url, n, "data:video/jpeg;"))
        m->from = MEDIAREF_FRAMES;
    size_t commas = 0;
    for (size_t i = 0; i < m->n; i++)
        commas += m->text[i] == ',';
    if (commas > 0 && m->from != MEDIAREF_FRAMES)
        return bad(m, r, "commas between frames need the type video/jpeg");
    if (commas >= MEDIAREF_FRAMES_MAX)
        return refuse(r, 413, "too_many_frames", m->where,
                      "%s: %zu frames in a data URL, at most %d are accepted", m->where, commas + 1,
                      MEDIAREF_FRAMES_MAX);
    return m->n > 0 ? 0 : bad(m, r, "the data URL is empty");
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// file:///PATH or file://localhost/PATH: PATH with its escapes undone.
static int read_file_url(struct mediaref *m, const char *url, size_t n, struct refusal *r)
{
    size_t at = 5;
    if (begins(url + at, n - at, "//localhost/"))
        at += 11;
    else if (begins(url + at, n - at, "///"))
        at += 2;
    else
        return bad(m, r, "a file URL is file:///PATH, without a host");
    m->owned = heap_calloc(n - at + 1, 1);
    if (!m->owned)
        return refuse(r, 503, "out_of_memory", "", "out of memory");
    size_t to = 0;
    for (size_t i = at; i < n; i++) {
        char c = url[i];
        if (c == '?' || c == '#' || c == '\\' || c == 0)
            return bad(m, r, "a file URL has no query, fragment, backslash or NUL");
        if (c == '%') {
            int high = i + 2 < n ? hex(url[i + 1]) : -1, low = high >= 0 ? hex(url[i + 2]) : -1;
            if (low < 0)
                return bad(m, r, "a broken escape in a file URL");
            c = (char)(16 * high + low);
            i += 2;
            if (c == '/' || c == 0 || c == '\\')
                return bad(m, r, "an escaped slash or NUL in a file URL");
        }
        m->owned[to++] = c;
    }
    m->text = m->owned;
    m->n = to;
    m->from = MEDIAREF_FILE;
    return 0;
}

int mediaref_url(struct mediaref *m, const char *url, size_t n, struct refusal *r)
{
    if (begins(url, n, "data:"))
        return read_data(m, url, n, r);
    if (n > 4096)
        return bad(m, r, "the URL is longer than 4096 bytes");
    if (begins(url, n, "file:"))
        return read_file_url(m, url, n, r);
    if (!begins(url, n, "https://") && !begins(url, n, "http://"))
        return bad(m, r, "expected a data:, file: or https: URL");
    m->text = url;
    m->n = n;
    m->from = MEDIAREF_REMOTE;
    return 0;
}

// A bare string: a URL if it looks like one, else base64.
static int read_string(struct mediaref *m, const char *s, size_t n, struct refusal *r)
{
    const char *colon = memchr(s, ':', n < 16 ? n : 16);
    if (colon)
        return mediaref_url(m, s, n, r);
    if (n == 0)
        return bad(m, r, "empty");
    m->text = s;
    m->n = n;
    m->from = MEDIAREF_DATA;
    return 0;
}

static int read_path(struct mediaref *m, const char *s, size_t n, struct refusal *r)
{
    if (begins(s, n, "file:"))
        return mediaref_url(m, s, n, r);
    if (n == 0 || n > 4096)
        return bad(m, r, "the path is empty or longer than 4096 bytes");
    m->text = s;
    m->n = n;
    m->from = MEDIAREF_FILE;
    return 0;
}

static int read_stored(struct mediaref *m, const char *id, size_t n, struct refusal *r)
{
    if (n > 128)
        return bad(m, r, "no such id");
    m->text = id;
    m->n = n;
    m->from = MEDIAREF_STORED;
    return 0;
}

// The object behind "video_url", "input_video", "video".
static int read_object(struct mediaref *m, const struct json_t *v, struct refusal *r)
{
    static const struct {
        const char *key;
        int (*read)(struct mediaref *m, const char *s, size_t n, struct refusal *r);
    } ways[] = {{"url", mediaref_url},
                {"data", read_string},
                {"path", read_path},
                {"file_id", read_stored},
                {"id", read_stored}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const struct json_t *t = jt_member(v, ways[i].key);
        size_t n;
        if (jt_kind_of(t) == JT_NONE)
            continue;
        if (jt_kind_of(t) != JT_TEXT)
            return bad(m, r, "expected a string");
        const char *s = jt_text(t, &n);
        return ways[i].read(m, s, n, r);
    }
    return m->uuid ? read_stored(m, "", 0, r) : bad(m, r, "names no url, data, path or id");
}

static int read_uuid(struct mediaref *m, const struct json_t *part, const struct json_t *v,
                     struct refusal *r)
{
    const struct json_t *u = jt_member(part, "uuid");
    size_t n;
    if (jt_kind_of(u) == JT_NONE)
        u = jt_member(v, "uuid");
    if (jt_kind_of(u) == JT_NONE)
        return 0;
    const char *text = jt_text(u, &n);
    if (jt_kind_of(u) != JT_TEXT || n == 0 || n > MEDIAREF_UUID_MAX)
        return bad(m, r, "uuid: expected a string of 1 to 256 bytes");
    m->uuid = text;
    return 0;
}

int mediaref_read(struct mediaref *m, const struct json_t *part, const char *where,
                  struct refusal *r)
{
    const char *type = jt_text(jt_member(part, "type"), NULL);
    const struct json_t *v = jt_member(part, type), *id = jt_member(part, "id");
    size_t n;
    *m = (struct mediaref){0};
    (void)snprintf(m->where, sizeof m->where, "%s", where);
    (void)mediaref_type(type, &m->image);
    if (jt_kind_of(id) == JT_NONE)
        id = jt_member(part, "file_id");
    int rc = read_uuid(m, part, v, r);
    if (rc == 0 && jt_kind_of(v) == JT_TEXT) {
        const char *s = jt_text(v, &n);
        rc = read_string(m, s, n, r);
    } else if (rc == 0 && jt_kind_of(v) == JT_MAP) {
        rc = read_object(m, v, r);
    } else if (rc == 0 && jt_kind_of(v) != JT_NONE) {
        rc = bad(m, r, "expected an object or a string");
    } else if (rc == 0 && jt_kind_of(id) == JT_TEXT) {
        const char *s = jt_text(id, &n);
        rc = read_stored(m, s, n, r);
    } else if (rc == 0) { // the members may stand in the part itself
        rc = read_object(m, part, r);
    }
    if (rc != 0)
        mediaref_free(m);
    return rc;
}

void mediaref_free(struct mediaref *m)
{
    heap_free(m->owned);
    *m = (struct mediaref){0};
}

size_t base64_room(size_t n)
{
    return n / 4 * 3 + 3;
}

static int digit(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

ptrdiff_t base64_decode(const char *text, size_t n, uint8_t *out)
{
    size_t to = 0, have = 0, padding = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n' || text[i] == '\r' || text[i] == ' ' || text[i] == '\t')
            continue;
        int d = digit((unsigned char)text[i]);
        if (text[i] == '=') {
            padding++;
            continue;
        }
        if (d < 0 || padding > 0)
            return -1;
        bits = bits << 6 | (uint32_t)d;
        if (++have == 4) {
            out[to++] = (uint8_t)(bits >> 16);
            out[to++] = (uint8_t)(bits >> 8);
            out[to++] = (uint8_t)bits;
            have = 0;
            bits = 0;
        }
    }
    if (have == 1 || (padding > 0 && (have + padding) % 4 != 0) || padding > 2)
        return -1;
    if (have >= 2)
        out[to++] = (uint8_t)(bits >> (have == 2 ? 4 : 10));
    if (have == 3)
        out[to++] = (uint8_t)(bits >> 2);
    if ((have == 2 && bits & 15) || (have == 3 && bits & 3))
        return -1; // bits that stand for nothing: two texts for one file
    return (ptrdiff_t)to;
}

void base64_encode(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                     (left > 2 ? bytes[i + 2] : 0);
        *out++ = digits[v >> 18];
        *out++ = digits[v >> 12 & 63];
        *out++ = left > 1 ? digits[v >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[v & 63] : '=';
    }
    *out = 0;
}

// SPDX-License-Identifier: MIT
// multipart/form-data of RFC 7578, as browsers and curl write it:
//
//   --B CRLF headers CRLF CRLF bytes CRLF --B CRLF ... --B--
//
// Easy to get wrong: the bytes may hold anything but CRLF--B, so lines mean nothing in them; a boundary has at most
// 70 characters; a file name is the client's text: folders, controls and quotes go.

#define _GNU_SOURCE // memmem
#include "multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { BOUNDARY_MAX = 70, HEADERS_MAX = 4096, PARTS_MAX = 64 };

bool multipart_type(const char *type)
{
    return type && strncasecmp(type, "multipart/form-data", 19) == 0;
}

// "CRLF--B" of the type; its length, 0 = none.
static size_t boundary(const char *type, char out[BOUNDARY_MAX + 5])
{
    const char *p = strcasestr(type, "boundary=");
    if (!p)
        return 0;
    p += 9;
    bool quoted = *p == '"';
    p += quoted;
    size_t n = strcspn(p, quoted ? "\"" : "; \t,");
    if (n < 1 || n > BOUNDARY_MAX)
        return 0;
    memcpy(out, "\r\n--", 4);
    memcpy(out + 4, p, n);
    return n + 4;
}

// The value of a parameter of Content-Disposition among the headers [p, p + n).
static bool parameter(const char *p, size_t n, const char *key, char *out, size_t cap)
{
    const char *end = p + n;
    size_t n_key = strlen(key), to = 0;
    for (; n_key < (size_t)(end - p); p++) {
        if (strncasecmp(p, key, n_key) == 0 && (p[-1] == ' ' || p[-1] == ';'))
            break;
    }
    if (n_key >= (size_t)(end - p))
        return false;
    p += n_key;
    bool quoted = *p == '"';
    p += quoted;
    for (; p < end && *p != (quoted ? '"' : ';') && *p != '\r' && *p != '\n'; p++) {
        if (*p == '/' || *p == '\\')
            to = 0;
        else if ((unsigned char)*p >= ' ' && *p != 0x7f && to + 1 < cap)
            out[to++] = *p;
    }
    out[to] = 0;
    return true;
}

bool multipart_read(struct multipart_file *f, const char *type, const char *body, size_t n)
{
    char mark[BOUNDARY_MAX + 5];
    size_t n_mark = boundary(type, mark);
    bool found = false;
    *f = (struct multipart_file){0};
    if (n_mark == 0 || n < n_mark || memcmp(body, mark + 2, n_mark - 2) != 0)
        return false;
    const char *p = body + n_mark - 2, *end = body + n;
    for (int i = 0; i < PARTS_MAX; i++) {
        char name[128] = "", file[128] = "";
        if (end - p >= 2 && memcmp(p, "--", 2) == 0)
            return found;
        if (end - p < 2 || memcmp(p, "\r\n", 2) != 0)
            return false;
        size_t most = (size_t)(end - p) < HEADERS_MAX ? (size_t)(end - p) : HEADERS_MAX;
        const char *blank = memmem(p, most, "\r\n\r\n", 4);
        if (!blank)
            return false;
        const char *bytes = blank + 4, *stop = NULL;
        // an empty part's mark begins with the headers' last CRLF
        stop = memmem(blank + 2, (size_t)(end - blank - 2), mark, n_mark);
        if (!stop)
            return false;
        size_t n_head = blank > p ? (size_t)(blank - p - 2) : 0; // a part may have no header
        bool is_file = parameter(p + 2, n_head, "filename=", file, sizeof file);
        (void)parameter(p + 2, n_head, "name=", name, sizeof name);
        if (!found && (is_file || strcmp(name, "file") == 0)) {
            f->bytes = bytes;
            f->n = stop > bytes ? (size_t)(stop - bytes) : 0;
            memcpy(f->name, file, sizeof f->name);
            found = true;
        }
        p = stop + n_mark;
    }
    return false;
}

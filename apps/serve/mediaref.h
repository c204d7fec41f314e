// SPDX-License-Identifier: MIT
// What a part of a message says of its media: where the bytes are, or the bytes themselves. Nothing is opened here.
#ifndef IV_APPS_SERVE_MEDIAREF_H
#define IV_APPS_SERVE_MEDIAREF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fieldcheck.h"

enum mediaref_from {
    MEDIAREF_DATA,   // text: base64 of a file
    MEDIAREF_FRAMES, // text: base64 of JPEG files, with commas in between
    MEDIAREF_FILE,   // text: path on this machine, percent-decoding done
    MEDIAREF_REMOTE, // text: https URL
    MEDIAREF_STORED  // text: id of an upload, or "" and uuid
};

struct mediaref {
    bool image;
    enum mediaref_from from;
    const char *text; // in the request, or in `owned`
    size_t n;
    char *owned;      // heap_free
    const char *uuid; // NULL = none
    char where[48];   // "messages[0].content[1]"
};

enum { MEDIAREF_UUID_MAX = 256, MEDIAREF_FRAMES_MAX = 512 };

// Whether a part of this type is media; *image tells which.
bool mediaref_type(const char *type, bool *image);
// Reads the part. 0 or -1 with *r; on success mediaref_free.
int mediaref_read(struct mediaref *out, const struct json_t *part, const char *where,
                  struct refusal *r);
// A URL of any scheme, as if it had stood in a part.
int mediaref_url(struct mediaref *m, const char *url, size_t n, struct refusal *r);
void mediaref_free(struct mediaref *m);

// Bytes that n characters of base64 can hold at most.
size_t base64_room(size_t n);
// Strict: standard or URL-safe alphabet, padding right or absent, white space (it comes from line-wrapped files) passed
// over. Bytes written, or -1.
ptrdiff_t base64_decode(const char *text, size_t n, uint8_t *out);
// Zero-terminated, 4 * ((n + 2) / 3) + 1 bytes.
void base64_encode(const uint8_t *bytes, size_t n, char *out);

#endif

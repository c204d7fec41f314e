// SPDX-License-Identifier: MIT
// Numbers and texts one behind the other in a byte string, little-endian: what is inside the sections of
// checked files. Reading is for hostile bytes: it never leaves them, and a failure is sticky and tested once.
#ifndef IV_BASE_FIELDS_H
#define IV_BASE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct fields_text {
    const char *p; // not zero-terminated; NULL = none
    size_t n;
};

// Appending; failure is b->failed.
void fields_put_u32(struct buf *b, uint32_t v);
void fields_put_u64(struct buf *b, uint64_t v);
void fields_put_f64(struct buf *b, double v);
void fields_put_bytes(struct buf *b, const void *p, size_t n);
// Length + 1 as u32 (0 = none), then the bytes.
void fields_put_text(struct buf *b, struct fields_text t);

struct fields {
    const uint8_t *p;
    size_t left;
    bool failed;
};

// 0 after a failure.
uint32_t fields_u32(struct fields *f);
uint64_t fields_u64(struct fields *f);
double fields_f64(struct fields *f);
// A u32 that must be 0 or 1.
bool fields_flag(struct fields *f);
// n bytes in place, NULL after a failure.
const uint8_t *fields_bytes(struct fields *f, size_t n);
// In place; {NULL, 0} after a failure. c_string = a NUL inside is a failure.
struct fields_text fields_text(struct fields *f, bool c_string);
// Nothing failed and nothing is left.
bool fields_end(const struct fields *f);

#endif

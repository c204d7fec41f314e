// SPDX-License-Identifier: MIT
// UTF-8 and the character properties that the tokenizers ask for. The one door to utf8proc.
// All functions are pure and may run on any thread.
#ifndef IV_TEXT_UNICODE_H
#define IV_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    UTF8_MAX = 4, // bytes of the longest character
    UNI_REPLACEMENT = 0xFFFD,
    UNI_DECOMPOSE_MAX = 8, // characters a canonical decomposition can have
};

// Reads the character at p (n bytes are there). Returns its length 1..4 and sets *cp; 0 = the n bytes
// are the beginning of a valid character (also n == 0); -1 = no valid character begins here.
// Overlong forms, surrogates and values above 10FFFF are invalid, so "invalid" is always known from
// the bytes seen so far.
int utf8_decode(const char *p, size_t n, uint32_t *cp);
// Writes cp (a valid scalar value) and returns its length.
size_t utf8_encode(uint32_t cp, char out[UTF8_MAX]);
bool utf8_valid(const char *p, size_t n);

// General category begins with C (control, format, surrogate, private use, unassigned); \t \n \r are
// not counted.
bool uni_is_control(uint32_t cp);
// Space, \t, \n, \r, and the categories Zs, Zl, Zp.
bool uni_is_space(uint32_t cp);
// The ASCII punctuation and symbols, and the categories P*.
bool uni_is_punct(uint32_t cp);
// Category Mn.
bool uni_is_nonspacing(uint32_t cp);
// CJK ideographs (not kana, not hangul).
bool uni_is_cjk(uint32_t cp);
// Lower case of one character on its own (no final sigma): 1 or 2 characters.
size_t uni_lower(uint32_t cp, uint32_t out[2]);
// Full canonical decomposition of one character, without reordering: 1..UNI_DECOMPOSE_MAX characters.
size_t uni_decompose(uint32_t cp, uint32_t out[UNI_DECOMPOSE_MAX]);

#endif

// SPDX-License-Identifier: MIT
// UTF-8 and code points for the editor.
//
// Easy to get wrong: the first bytes of a character may arrive before the rest, so "not complete"
// and "ill-formed" are told apart; wchar_t holds any code point on the systems we build for.

#include "wide.h"

#include <stdbool.h>
#include <string.h>

#include "heap.h"
#include "wellformed.h"

_Static_assert(sizeof(wchar_t) >= 4, "a wide character holds a code point");

// Whether more bytes could make the n bytes of s a character.
static bool begins_character(const char *s, size_t n)
{
    char whole[4];
    memcpy(whole, s, n);
    // the second byte has bounds of its own: try both ends of them
    for (size_t i = n; i < 4; i++)
        whole[i] = '\x80';
    if (wellformed_sequence(whole, 4) > n)
        return true;
    if (n == 1)
        whole[1] = '\xbf';
    return n == 1 && wellformed_sequence(whole, 4) > n;
}

wchar_t wide_decode(const char *s, size_t n, size_t *used)
{
    size_t len = wellformed_sequence(s, n);
    const unsigned char *b = (const unsigned char *)s;
    *used = len;
    switch (len) {
    case 1:
        return b[0];
    case 2:
        return (b[0] & 0x1f) << 6 | (b[1] & 0x3f);
    case 3:
        return (b[0] & 0x0f) << 12 | (b[1] & 0x3f) << 6 | (b[2] & 0x3f);
    case 4:
        return (b[0] & 0x07) << 18 | (b[1] & 0x3f) << 12 | (b[2] & 0x3f) << 6 | (b[3] & 0x3f);
    default:
        break;
    }
    if (n < 4 && begins_character(s, n))
        return 0;
    *used = 1;
    return 0xfffd;
}

wchar_t *wide_text(const char *s, size_t n)
{
    wchar_t *out = heap_calloc(n + 1, sizeof *out);
    size_t k = 0, used;
    for (size_t i = 0; out && i < n; i += used) {
        wchar_t c = wide_decode(s + i, n - i, &used);
        if (used == 0) { // cut at the end
            c = 0xfffd;
            used = n - i;
        }
        out[k++] = c;
    }
    return out;
}

size_t wide_encode(char *out, wchar_t code)
{
    unsigned long c = (unsigned long)code;
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        c = 0xfffd;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

char *wide_bytes(const wchar_t *s, size_t n, size_t *len)
{
    size_t k = 0;
    char *out = n < (size_t)-1 / 4 ? heap_calloc(4 * n + 1, 1) : NULL;
    for (size_t i = 0; out && i < n; i++)
        k += wide_encode(out + k, s[i]);
    *len = k;
    return out;
}

bool wide_steers(wchar_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

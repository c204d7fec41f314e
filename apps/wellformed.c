// SPDX-License-Identifier: MIT
// Well-formed UTF-8 (Unicode standard, table 3-7): no surrogates, no overlong forms, nothing above
// U+10FFFF.
//
//   first byte   second byte     further bytes
//   00..7F
//   C2..DF       80..BF
//   E0           A0..BF          80..BF
//   E1..EC EE EF 80..BF          80..BF
//   ED           80..9F          80..BF
//   F0           90..BF          80..BF 80..BF
//   F1..F3       80..BF          80..BF 80..BF
//   F4           80..8F          80..BF 80..BF
//
// Easy to get wrong: only the second byte has bounds that depend on the first.

#include "wellformed.h"

#include <stdbool.h>

size_t wellformed_sequence(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80)
        return 1;
    size_t len = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                 : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                : 0;
    if (len == 0 || len > n)
        return 0;
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

size_t wellformed_length(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        size_t len = wellformed_sequence(s + i, n - i);
        if (len == 0)
            break;
        i += len;
    }
    return i;
}

size_t wellformed_steers(const char *s)
{
    const unsigned char *b = (const unsigned char *)s;
    if (!b[0])
        return 0;
    if (b[0] < 0x20 || b[0] == 0x7f)
        return 1;
    if ((b[0] == 0xc2 && b[1] >= 0x80 && b[1] < 0xa0) || (b[0] == 0xd8 && b[1] == 0x9c))
        return 2;
    if (b[0] != 0xe2 || !b[1])
        return 0;
    bool mark = b[1] == 0x80 && (b[2] == 0x8e || b[2] == 0x8f);
    bool embedding = b[1] == 0x80 && b[2] >= 0xaa && b[2] <= 0xae;
    bool isolate = b[1] == 0x81 && b[2] >= 0xa6 && b[2] <= 0xa9;
    return mark || embedding || isolate ? 3 : 0;
}

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

// SPDX-License-Identifier: MIT
// Keeps messages to one line of valid UTF-8, whatever a file name or a tensor name holds. Without it a
// name could hide the rest of a line, drive the terminal (ESC, and U+009B which means ESC [), or make
// the JSON that carries the message invalid.
// Easy to get wrong: overlong forms and surrogates are not UTF-8; a cut must not split a character.
#include "base/visible.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// Bytes of the UTF-8 character at s and its code point; 0 if there is none. s is zero-terminated, and
// no continuation byte is zero, so nothing behind the end is read.
static size_t decode(const unsigned char *s, uint32_t *cp)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80         ? 1
               : (s[0] >> 5) == 6  ? 2
               : (s[0] >> 4) == 14 ? 3
               : (s[0] >> 3) == 30 ? 4
                                   : 0;
    if (n < 2) {
        *cp = s[0];
        return n;
    }
    *cp = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        *cp = *cp << 6 | (s[i] & 0x3fu);
    }
    bool bad = *cp < least[n] || *cp > 0x10ffff || (*cp >= 0xd800 && *cp <= 0xdfff);
    return bad ? 0 : n;
}

static bool harmless(uint32_t cp)
{
    return cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0) // C0, DEL, C1
           && cp != 0x200e && cp != 0x200f          // direction marks
           && !(cp >= 0x2028 && cp <= 0x202e)       // line separators, direction overrides
           && !(cp >= 0x2066 && cp <= 0x2069)       // direction isolates
           && cp != 0xfeff;                         // byte order mark
}

size_t visible_copy(char *dst, size_t cap, const char *src)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *s = (const unsigned char *)src;
    size_t n = 0;
    while (*s) {
        uint32_t cp;
        size_t len = decode(s, &cp);
        if (len && harmless(cp)) {
            if (n + len >= cap)
                break;
            memcpy(dst + n, s, len);
            n += len;
            s += len;
        } else {
            if (n + 4 >= cap)
                break;
            dst[n++] = '\\';
            dst[n++] = 'x';
            dst[n++] = hex[*s >> 4];
            dst[n++] = hex[*s & 15];
            s++;
        }
    }
    dst[n] = 0;
    return n;
}

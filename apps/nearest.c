// SPDX-License-Identifier: MIT
// Spelling suggestions for verbs and options.
//
// Distance: insertions, deletions, substitutions and swaps of neighbours, each 1 (optimal string
// alignment, three rows of the usual table). A candidate that the word merely shortens or extends
// ("--max-new", "--temperature") counts as 1 whatever the length, since that is how people mistype
// option names they half remember.
//
// Easy to get wrong: with short words everything is near everything; a suggestion must share more
// than half of the letters.

#include "nearest.h"

#include <string.h>

enum { LETTERS = 48 }; // longer words get no suggestion

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t row[3][LETTERS + 1];
    for (size_t j = 0; j <= nb; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = row[i % 3], *up = row[(i - 1) % 3], *up2 = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            now[j] = min3(up[j] + 1, now[j - 1] + 1, up[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = min3(now[j], up2[j - 2] + 1, now[j]);
        }
    }
    return row[na % 3][nb];
}

void nearest_offer(struct nearest *n, const char *candidate)
{
    size_t nw = strlen(n->word), nc = strlen(candidate);
    if (nw > LETTERS || nc > LETTERS)
        return;
    size_t shorter = nw < nc ? nw : nc;
    size_t d = distance(n->word, nw, candidate, nc);
    if (shorter >= 3 && d > 1 && memcmp(n->word, candidate, shorter) == 0)
        d = 1;
    if (2 * d >= (nw > nc ? nw : nc))
        return;
    if (!n->best || d < n->distance) {
        n->best = candidate;
        n->distance = d;
    }
}

const char *nearest_word(const struct nearest *n)
{
    return n->distance <= 3 ? n->best : NULL;
}

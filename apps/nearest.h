// SPDX-License-Identifier: MIT
// "Did you mean": the candidate closest to a mistyped word.
#ifndef IV_APPS_NEAREST_H
#define IV_APPS_NEAREST_H

#include <stddef.h>

// Set word, zero the rest, offer every candidate, then ask. All texts are borrowed.
struct nearest {
    const char *word;
    const char *best;
    size_t distance;
};

void nearest_offer(struct nearest *n, const char *candidate);
// The best candidate, or NULL when none is close enough to be worth naming.
const char *nearest_word(const struct nearest *n);

#endif

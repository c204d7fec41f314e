// SPDX-License-Identifier: MIT
// What completion offers: texts that could stand in place of the last bytes before the cursor.
#ifndef IV_APPS_CANDIDATES_H
#define IV_APPS_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>

enum { CANDIDATES_MAX = 4096 };

// Zero, fill, candidates_free.
struct candidates {
    char **text; // [n], zero-terminated, sorted by candidates_sort
    size_t n, cap;
    size_t replaced; // bytes before the cursor that every text begins with or replaces
    char after;      // what follows a text that is the only one; 0 = nothing
    bool failed;     // out of memory
};

// Adds a copy of text with `tail` (may be "") behind it, unless there are CANDIDATES_MAX already.
void candidates_add(struct candidates *c, const char *text, const char *tail);
// Adds word when it begins with the n bytes of prefix.
void candidates_offer(struct candidates *c, const char *word, const char *prefix, size_t n);
void candidates_sort(struct candidates *c);
// Bytes that all texts share at their beginning, whole characters.
size_t candidates_shared(const struct candidates *c);
void candidates_free(struct candidates *c);

#endif

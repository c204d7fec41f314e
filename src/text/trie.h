// SPDX-License-Identifier: MIT
// A set of byte strings that can tell the longest one beginning at a place. Filled once, then
// read-only and usable from any thread.
#ifndef IV_TEXT_TRIE_H
#define IV_TEXT_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct trie_node {
    uint32_t child, sibling; // node numbers, 0 = none
    int32_t id;              // of the string ending here, -1 = none
    uint8_t byte;
};

// Zero-initialise; trie_free at the end.
struct trie {
    struct trie_node *node; // [n]; node 0 is unused
    size_t n, cap;
    uint32_t first[256]; // first node by first byte
};

// Adds a string of at least one byte (a repeated one takes the new id). ERR_LIMIT: memory.
int trie_add(struct trie *t, const char *p, size_t n, int32_t id, struct err *e);
void trie_free(struct trie *t);
// Length of the longest string of the set that is a prefix of the n bytes at p; 0 = none.
size_t trie_match(const struct trie *t, const char *p, size_t n, int32_t *id);

#endif

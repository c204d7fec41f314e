// SPDX-License-Identifier: MIT
// Child-and-sibling trie over bytes, the first level a direct table: nearly every place in a text is
// refused by that table alone. The sets are small (control tokens, user-defined pieces), their
// strings at most VOCAB_PIECE_MAX bytes, so a match costs at most 256 steps for each of those.
#include "text/trie.h"

#include <string.h>

#include "base/mem.h"

static int node_new(struct trie *t, uint8_t byte, uint32_t *at, struct err *e)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 256;
        struct trie_node *node = cap > UINT32_MAX ? NULL : mem_realloc(t->node, cap, sizeof *node);
        if (!node)
            return err_set(e, ERR_LIMIT, "tokenizer: out of memory for %zu trie nodes", cap);
        t->node = node;
        t->cap = cap;
    }
    if (t->n == 0)
        t->node[t->n++] = (struct trie_node){.id = -1};
    t->node[t->n] = (struct trie_node){.id = -1, .byte = byte};
    *at = (uint32_t)t->n++;
    return 0;
}

static uint32_t child_of(const struct trie *t, uint32_t at, uint8_t byte)
{
    uint32_t c = t->node[at].child;
    while (c && t->node[c].byte != byte)
        c = t->node[c].sibling;
    return c;
}

int trie_add(struct trie *t, const char *p, size_t n, int32_t id, struct err *e)
{
    int rc = 0;
    uint8_t byte = (uint8_t)p[0];
    if (!t->first[byte])
        TRY(node_new(t, byte, &t->first[byte], e));
    uint32_t at = t->first[byte];
    for (size_t i = 1; i < n; i++) {
        byte = (uint8_t)p[i];
        uint32_t c = child_of(t, at, byte);
        if (!c) {
            TRY(node_new(t, byte, &c, e));
            t->node[c].sibling = t->node[at].child;
            t->node[at].child = c;
        }
        at = c;
    }
    t->node[at].id = id;
fail:
    return rc;
}

void trie_free(struct trie *t)
{
    mem_free(t->node);
    memset(t, 0, sizeof *t);
}

size_t trie_match(const struct trie *t, const char *p, size_t n, int32_t *id)
{
    size_t len = 0;
    *id = -1;
    if (n == 0)
        return 0;
    uint32_t at = t->first[(uint8_t)p[0]];
    for (size_t i = 1; at; i++) {
        if (t->node[at].id >= 0) {
            len = i;
            *id = t->node[at].id;
        }
        at = i < n ? child_of(t, at, (uint8_t)p[i]) : 0;
    }
    return len;
}

// SPDX-License-Identifier: MIT
// The list behind the Tab key.
//
// Easy to get wrong: what the texts share may end inside a character, which must not be typed for
// anyone.

#include "candidates.h"

#include <stdlib.h>
#include <string.h>

#include "heap.h"

void candidates_add(struct candidates *c, const char *text, const char *tail)
{
    if (c->n == CANDIDATES_MAX || c->failed)
        return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        char **grown = heap_realloc(c->text, cap, sizeof *grown);
        if (!grown) {
            c->failed = true;
            return;
        }
        c->text = grown;
        c->cap = cap;
    }
    size_t n = strlen(text), m = strlen(tail);
    char *copy = heap_calloc(n + m + 1, 1);
    if (!copy) {
        c->failed = true;
        return;
    }
    memcpy(copy, text, n);
    memcpy(copy + n, tail, m);
    c->text[c->n++] = copy;
}

void candidates_offer(struct candidates *c, const char *word, const char *prefix, size_t n)
{
    if (strncmp(word, prefix, n) == 0)
        candidates_add(c, word, "");
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void candidates_sort(struct candidates *c)
{
    if (c->n > 1)
        qsort(c->text, c->n, sizeof *c->text, compare);
}

size_t candidates_shared(const struct candidates *c)
{
    if (c->n == 0)
        return 0;
    size_t n = strlen(c->text[0]);
    for (size_t i = 1; i < c->n; i++) {
        size_t k = 0;
        while (k < n && c->text[i][k] == c->text[0][k])
            k++;
        n = k;
    }
    while (n > 0 && ((unsigned char)c->text[0][n] & 0xc0) == 0x80)
        n--;
    return n;
}

void candidates_free(struct candidates *c)
{
    for (size_t i = 0; i < c->n; i++)
        heap_free(c->text[i]);
    heap_free(c->text);
    *c = (struct candidates){0};
}

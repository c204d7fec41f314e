// SPDX-License-Identifier: MIT
// Which files of a repository are wanted.
#ifndef IV_HUB_CHOOSE_H
#define IV_HUB_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>

// Shell patterns as the hub's own client takes them: '*' also matches '/', a '/' at the end stands for all
// below. n_include 0 = what ivchat reads: weights, index, configuration, tokenizer, at the top level.
struct choice {
    const char *const *include, *const *exclude;
    size_t n_include, n_exclude;
};

bool choice_wants(const struct choice *c, const char *path);

#endif

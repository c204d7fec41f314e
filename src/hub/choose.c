// SPDX-License-Identifier: MIT
// Choice of files by name.
// Easy to get wrong: repositories of base models hold the same weights a second time under other names
// (consolidated.safetensors, pytorch_model.bin), so the default names what the loader reads and no more.
#include "hub/choose.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "hub/repo_name.h"

static const char *const defaults[] = {
    "config.json",           "model.safetensors",
    "model-*.safetensors",   "model.safetensors.index.json",
    "tokenizer.json",        "tokenizer.model",
    "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",     "vocab.txt",
};

static bool matches(const char *pattern, const char *path)
{
    char below[2 * REPO_PATH_MAX];
    size_t n = strlen(pattern);
    if (n > 0 && pattern[n - 1] == '/')
        return !strncmp(pattern, path, n) ||
               ((size_t)snprintf(below, sizeof below, "%s*", pattern) < sizeof below &&
                fnmatch(below, path, FNM_NOESCAPE) == 0);
    return fnmatch(pattern, path, 0) == 0;
}

bool choice_wants(const struct choice *c, const char *path)
{
    bool wanted = false;
    if (c->n_include == 0) {
        for (size_t i = 0; i < sizeof defaults / sizeof *defaults && !wanted; i++)
            wanted = fnmatch(defaults[i], path, FNM_PATHNAME) == 0;
    }
    for (size_t i = 0; i < c->n_include && !wanted; i++)
        wanted = matches(c->include[i], path);
    for (size_t i = 0; i < c->n_exclude && wanted; i++)
        wanted = !matches(c->exclude[i], path);
    return wanted;
}

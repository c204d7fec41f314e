// SPDX-License-Identifier: MIT
// Completion scripts for shells, made from the tables of verbs.c.
#ifndef IV_APPS_SHELLSCRIPT_H
#define IV_APPS_SHELLSCRIPT_H

#include <stdbool.h>
#include <stdio.h>

// shell: "bash", "zsh" or "fish"; false = another, nothing is written.
bool shellscript_write(FILE *out, const char *shell);

#endif

// SPDX-License-Identifier: MIT
// Help texts, made from the tables of verbs.c.
#ifndef IV_APPS_USAGE_H
#define IV_APPS_USAGE_H

#include <stdio.h>

#include "verbs.h"

// Texts that the manual pages share. Lists end with NULL.
extern const char usage_program_summary[];
extern const char usage_twins[];
extern const char *const usage_exit_codes[][2];
extern const char *const usage_variables[][2];

void usage_program(FILE *out);
void usage_verb(FILE *out, const struct verb *verb);

#endif

// SPDX-License-Identifier: MIT
// Help texts, made from the tables of verbs.c.
#ifndef IV_APPS_USAGE_H
#define IV_APPS_USAGE_H

#include <stdio.h>

#include "verbs.h"

void usage_program(FILE *out);
void usage_verb(FILE *out, const struct verb *verb);

#endif

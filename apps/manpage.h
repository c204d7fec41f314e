// SPDX-License-Identifier: MIT
// Manual pages, made from the tables of verbs.c.
#ifndef IV_APPS_MANPAGE_H
#define IV_APPS_MANPAGE_H

#include <stdio.h>

#include "verbs.h"

// ivchat(1) for verb NULL, else ivchat-VERB(1); man(7) source.
void manpage_write(FILE *out, const struct verb *verb);

#endif

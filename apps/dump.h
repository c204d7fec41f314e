// SPDX-License-Identifier: MIT
// --dump DIR: every stage's output as a .npy file.
#ifndef IV_APPS_DUMP_H
#define IV_APPS_DUMP_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "ivchat.h"

enum { DUMP_NAME = 32 }; // longest name of a stage

struct dump {
    const char *dir;    // NULL = off
    unsigned turn;      // 1 = files in DIR, n > 1 = files in DIR/turn<n>
    atomic_bool failed; // the abort callback reads it
    struct iv_error error;
};

// Makes the folder (and those above it). IV_ERR_FAIL.
int dump_open(struct dump *d, const char *dir, struct iv_error *e);
// From now on the stages belong to this turn.
void dump_turn(struct dump *d, unsigned turn);
// For the library's stage callback. A failure is kept in d.
void dump_stage(struct dump *d, const char *name, const char *dtype, const void *data,
                const size_t *dim, unsigned n_dim);

#endif

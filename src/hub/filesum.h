// SPDX-License-Identifier: MIT
// The checksum by which the hub knows a file: SHA-256 of large ones, git's SHA-1 of "blob SIZE\0" and the bytes.
#ifndef IV_HUB_FILESUM_H
#define IV_HUB_FILESUM_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/sha256.h"
#include "hub/listing.h"

// As sha256_begin and sha256_end; text gets hex digits.
int filesum_begin(struct sha256 *s, const struct remote_file *f, struct err *e);
int filesum_end(struct sha256 *s, const struct remote_file *f, char text[SHA256_TEXT],
                struct err *e);
const char *filesum_kind(const struct remote_file *f);   // for messages
const char *filesum_wanted(const struct remote_file *f); // text that filesum_end has to give

// Reads the file `from` and tells whether it is f; with `to` (else NULL) copies it there meanwhile, on disk when
// it returns. A copy that is not f, or that fails, is taken away. ERR_ABORT within a piece (1 MiB) of *stop.
int filesum_copy(const char *from, const char *to, const struct remote_file *f,
                 const atomic_bool *stop, bool *same, struct err *e);

#endif

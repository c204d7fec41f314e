// SPDX-License-Identifier: MIT
// The tensors of a model directory: one safetensors file or shards named by an index, all mapped.
// Everything a file claims is checked here against its length; past this door tensors are trusted.
// Knows names, types and shapes; never what a layer is. (SPEC 2; safetensors format)
#ifndef IV_WEIGHTS_WEIGHTS_H
#define IV_WEIGHTS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "tensor/tensor.h"

struct weights;

// Opens model.safetensors.index.json + shards, or the single model.safetensors, of dir. Caller closes.
int weights_open(const char *dir, struct weights **out, struct err *e);
void weights_close(struct weights *w);

size_t weights_count(const struct weights *w);
// i-th tensor in file order.
const struct tensor *weights_at(const struct weights *w, size_t i);
// By exact name; NULL when there is none. Logarithmic or better.
const struct tensor *weights_find(const struct weights *w, const char *name);
// File that holds t (for messages and `info`).
const char *weights_file(const struct weights *w, const struct tensor *t);
size_t weights_file_count(const struct weights *w);
// Path and bytes of the i-th file.
const char *weights_file_at(const struct weights *w, size_t i, size_t *bytes);

#endif

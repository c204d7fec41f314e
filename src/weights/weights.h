// SPDX-License-Identifier: MIT
// The tensors of a model directory: one safetensors file or shards named by an index, all mapped.
// Everything a file claims is checked here against its length; past this door tensors are trusted.
// Knows names, types and shapes; never what a layer is. (SPEC 2; safetensors format)
#ifndef IV_WEIGHTS_WEIGHTS_H
#define IV_WEIGHTS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tensor/tensor.h"

struct weights;

// Opens model.safetensors.index.json + shards, or without an index the single model.safetensors, of
// dir. *out is the caller's, to weights_close; NULL on failure (ERR_MODEL naming file, tensor and
// numbers; ERR_LIMIT without memory). Every tensor's data is aligned to its element size and lives
// until weights_close. Any thread; afterwards weights are read-only and shared freely.
int weights_open(const char *dir, struct weights **out, struct err *e);
void weights_close(struct weights *w);

// Called for each tensor of GGUF files: changes its shape where the format could not say it, and writes the
// name under which it shall be found to name[cap] (the file's own name is t->name).
typedef int weights_adapt_fn(void *user, struct tensor *t, char *name, size_t cap, struct err *e);
struct gguf_file;                // weights/gguf.h
enum { WEIGHTS_NAME_MAX = 512 }; // bytes of a name with its zero
// The tensors of n opened GGUF files together. The files are taken over, also on failure: *file is zeroed.
int weights_take_gguf(struct gguf_file *file, size_t n, weights_adapt_fn *adapt, void *user,
                      struct weights **out, struct err *e);
// The i-th file if it is a GGUF file, else NULL.
const struct gguf_file *weights_gguf(const struct weights *w, size_t i);

size_t weights_count(const struct weights *w);
// i-th tensor: files by name, inside a file in the order of the bytes. NULL beyond the last.
const struct tensor *weights_at(const struct weights *w, size_t i);
// The i of t, which weights_at or weights_find gave.
size_t weights_index(const struct weights *w, const struct tensor *t);
// By exact name; NULL when there is none. Logarithmic or better.
const struct tensor *weights_find(const struct weights *w, const char *name);
// Path of the file that holds t, a tensor of w or a copy of one (for messages and `info`).
const char *weights_file(const struct weights *w, const struct tensor *t);
size_t weights_file_count(const struct weights *w);
// Path and (bytes may be NULL) length of the i-th file; NULL beyond the last.
const char *weights_file_at(const struct weights *w, size_t i, size_t *bytes);
// Bytes of all files.
uint64_t weights_file_bytes(const struct weights *w);
// Where the i-th is mapped, as a whole; NULL beyond the last. (Tensors that a file stores misaligned are elsewhere.)
const void *weights_map_at(const struct weights *w, size_t i);

#endif

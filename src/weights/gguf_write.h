// SPDX-License-Identifier: MIT
// Writes a GGUF file: values and tensors are named first, then the tensors' bytes stream out in that order.
#ifndef IV_WEIGHTS_GGUF_WRITE_H
#define IV_WEIGHTS_GGUF_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/outfile.h"
#include "tensor/tensor.h"
#include "weights/gguf.h"

// Zero-initialise; the puts only gather (failure shows in gguf_write_begin), gguf_write_begin opens the
// file. gguf_write_abandon releases everything, at any time.
struct gguf_writer {
    struct buf values, infos;
    uint64_t n_value, n_tensor;
    uint64_t data_bytes; // of the tensors named so far, padded
    uint64_t written;    // of these
    struct outfile out;
};

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_f64(struct gguf_writer *w, const char *key, double v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_text(struct gguf_writer *w, const char *key, const char *s);
void gguf_put_bytes(struct gguf_writer *w, const char *key, const void *p, size_t n); // a string
void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type item, const void *data,
                    size_t n); // of u32, i32, f32 ...
// An array of strings: its head, then n times a text.
void gguf_put_texts(struct gguf_writer *w, const char *key, size_t n);
void gguf_add_text(struct gguf_writer *w, const char *p, size_t n);

// Shape row-major, rank 1..4; at most GGUF_NAME_MAX bytes of name; whole blocks a row.
int gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype t, const size_t *dim,
                    unsigned rank, struct err *e);
int gguf_write_begin(struct gguf_writer *w, const char *path, const struct hooks *hooks,
                     struct err *e);
// Bytes of the tensors one after the other in the order of gguf_put_tensor, each tensor's padding added by
// gguf_write_pad behind it.
int gguf_write_data(struct gguf_writer *w, const void *bytes, size_t n, struct err *e);
int gguf_write_pad(struct gguf_writer *w, struct err *e);
// ERR_FAIL when bytes are missing.
int gguf_write_commit(struct gguf_writer *w, struct err *e);
void gguf_write_abandon(struct gguf_writer *w);

#endif

// SPDX-License-Identifier: MIT
// One GGUF file, mapped and checked: named values and tensors.
#ifndef IV_WEIGHTS_GGUF_H
#define IV_WEIGHTS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/filemap.h"
#include "tensor/tensor.h"

// What a file may ask for; beyond these it is refused.
enum {
    GGUF_KEY_MAX = 256,       // bytes of a key
    GGUF_NAME_MAX = 63,       // bytes of a tensor name, as ggml has them
    GGUF_VALUE_MAX = 1 << 16, // key-value pairs
    GGUF_TENSOR_MAX = 1 << 17,
    GGUF_RANK_MAX = 4,
    GGUF_ALIGN = 32, // of tensors, unless general.alignment says otherwise
    GGUF_ALIGN_MAX = 1 << 16,
};

// Numbers as in the file.
enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N
};

// Bytes of the file, not zero-terminated.
struct gguf_text {
    const char *p;
    size_t n;
};

struct gguf_value {
    struct gguf_text key;
    enum gguf_type type;
    enum gguf_type item; // of an array; else as type
    size_t n;            // items of an array; else 1
    const uint8_t *data; // the (first) item, at any address
};

struct gguf_file {
    struct filemap map;
    char *path;
    struct gguf_value *value; // [n_value] in file order
    size_t n_value;
    struct tensor *tensor; // [n_tensor] in the order of their bytes; rank 1..4
    size_t n_tensor;
    char *names;
};

// Maps path and checks everything it claims. Tensor data points into the map, aligned to 8 bytes at least,
// and lives until gguf_close. On failure (ERR_MODEL; ERR_LIMIT without memory) *f is zeroed. Any thread.
int gguf_open(struct gguf_file *f, const char *path, struct err *e);
void gguf_close(struct gguf_file *f);
// Whether a file at path begins like one; not a check.
bool gguf_is(const char *path);

// NULL when there is none.
const struct gguf_value *gguf_find(const struct gguf_file *f, const char *key);
const char *gguf_type_name(enum gguf_type t);
// The type's number in the file, -1 = GGUF has none that we write; and back.
int gguf_dtype_number(enum dtype t);

// All return 0 or ERR_MODEL naming file, key and what was expected. An absent key leaves *out alone and is an
// error only when `needed`. Numbers of any integer type are taken for an unsigned one; f32 for f64.
int gguf_get_size(const struct gguf_file *f, const char *key, bool needed, size_t low, size_t high,
                  size_t *out, struct err *e);
int gguf_get_real(const struct gguf_file *f, const char *key, bool needed, double low, double high,
                  double *out, struct err *e);
int gguf_get_bool(const struct gguf_file *f, const char *key, bool needed, bool *out,
                  struct err *e);
int gguf_get_text(const struct gguf_file *f, const char *key, bool needed, struct gguf_text *out,
                  struct err *e);
// An array of `item`; *out = NULL when absent.
int gguf_get_array(const struct gguf_file *f, const char *key, bool needed, enum gguf_type item,
                   const struct gguf_value **out, struct err *e);
bool gguf_text_is(struct gguf_text t, const char *s);
// Item of an array of strings, where *at is the item's address, first v->data; moves *at on.
struct gguf_text gguf_next_text(const uint8_t **at);

#endif

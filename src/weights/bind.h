// SPDX-License-Identifier: MIT
// Weight tables: one row binds one tensor (or one linear layer with its bias and LoRA pair) of a
// checkpoint to one field of a struct. The table loads, checks exact shapes and types, counts, and
// later drives quantisation and training. Tensor names appear in tables and nowhere else.
#ifndef IV_WEIGHTS_BIND_H
#define IV_WEIGHTS_BIND_H

#include "weights/weights.h"

enum bind_kind {
    BIND_TENSOR, // field is struct tensor
    BIND_LINEAR, // field is struct linear; name is the module: .weight or .base_layer.weight, and when
    // the row has BIND_BIAS .bias; with BIND_LORA an optional pair .lora_A.default.weight
    // [r, in] and .lora_B.default.weight [out, r] (both or neither)
    BIND_UNUSED, // no field: the tensor may be there, of any type but of that shape (rank 0 = any shape)
};
enum bind_flag {
    BIND_BIAS = 1,     // [dim[0]]
    BIND_LORA = 2,     // rank 2 only
    BIND_OPTIONAL = 4, // absent = field zeroed
    BIND_FINE = 8,     // a linear layer that is not to be computed in 8 bits
};

// dims are indices into the `size` array given to bind_rows, so one table serves every model size.
struct bind_row {
    const char *name; // without the prefix
    enum bind_kind kind;
    unsigned flags;
    size_t offset; // of the field in the target struct
    unsigned rank;
    unsigned char dim[TENSOR_MAX_RANK];
};

struct binder {
    const struct weights *weights;
    const size_t *size;  // the sizes that rows refer to
    unsigned lora_r;     // expected LoRA rank (0 = none expected: LoRA tensors are an error)
    float lora_scale;    // put into linear layers that have a pair
    unsigned char *used; // one per tensor of weights; set by binding
    // The tensors bound to fields, in the order of binding, which is the order of first use.
    const struct tensor **order; // [n_order], room for all of weights
    size_t n_order;
};

// used[] and order[] are allocated here; binder_free releases them (also of a zeroed binder). w and size are borrowed
// and must outlive b.
int binder_init(struct binder *b, const struct weights *w, const size_t *size, unsigned lora_r,
                float lora_scale, struct err *e);
void binder_free(struct binder *b);

// Binds n rows under `prefix` into *target; fields are borrowed views, valid as long as the weights.
// Floating tensors may be F32, F16 or BF16, matrices also of blocks; others only where the row is BIND_UNUSED. Errors (ERR_MODEL)
// name tensor, file, expected and found; fields of earlier rows are then already set. One thread.
int bind_rows(struct binder *b, const struct bind_row *row, size_t n, const char *prefix,
              void *target, struct err *e);
// ERR_MODEL naming the first tensors that no table asked for (up to 3, and how many in all).
int bind_check_unused(const struct binder *b, struct err *e);

#endif

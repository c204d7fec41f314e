// SPDX-License-Identifier: MIT
// Carries out weight tables: finds each row's tensors by name, checks type and shape, fills the field,
// and marks what was asked for, so that at the end nothing of the checkpoint is left over unnoticed.
//
//   linear M of W [out, in]:  M.weight | M.base_layer.weight, M.bias | M.base_layer.bias,
//                             M.lora_A.default.weight [r, in], M.lora_B.default.weight [out, r]
//
// Source: SPEC 2.3, 2.4 (names as peft 0.5 writes them; from 0.6 on a wrapped module's own tensors sit
// under .base_layer). Easy to get wrong: LoRA may be on any subset of the modules, so a missing pair is
// fine, but half a pair is not; one checkpoint may hold both spellings, one module must not.
#include "weights/bind.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "weights/safetensors.h"

enum { NAME_CAP = ST_NAME_MAX + 64, SHAPE_CAP = 128 };

// What a row expects of one tensor.
struct expected {
    unsigned rank; // 0 = any shape
    size_t dim[TENSOR_MAX_RANK];
    bool any_type;
};

// prefix + name + suffix; false when it is longer than any tensor name can be.
static bool name_join(char out[NAME_CAP], const char *prefix, const char *name, const char *suffix)
{
    int n = snprintf(out, NAME_CAP, "%s%s%s", prefix, name, suffix);
    return n >= 0 && n < NAME_CAP;
}

// Blocks hold rows of a matrix, never a vector or a table of another rank.
static bool is_floating(const struct tensor *t)
{
    return t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16 ||
           (dtype_is_block(t->dtype) && t->rank == 2);
}

// Looks up prefix + name + suffix and checks it. Absent: *out is zeroed, no error.
static int tensor_take(struct binder *b, const char *prefix, const char *name, const char *suffix,
                       const struct expected *x, struct tensor *out, struct err *e)
{
    char full[NAME_CAP], want[SHAPE_CAP], have[SHAPE_CAP];
    memset(out, 0, sizeof *out);
    const struct tensor *t =
        name_join(full, prefix, name, suffix) ? weights_find(b->weights, full) : NULL;
    if (!t)
        return 0;
    if (!x->any_type && !is_floating(t))
        return err_set(e, ERR_MODEL, "%s: expected F32, F16 or BF16, %s has %s", full,
                       weights_file(b->weights, t), dtype_name(t->dtype));
    bool same = x->rank == 0 || t->rank == x->rank;
    for (unsigned i = 0; same && i < x->rank; i++)
        same = t->dim[i] == x->dim[i];
    if (!same)
        return err_set(e, ERR_MODEL, "%s: expected %s, %s has %s", full,
                       shape_text(x->dim, x->rank, want, sizeof want), weights_file(b->weights, t),
                       shape_text(t->dim, t->rank, have, sizeof have));
    size_t index = weights_index(b->weights, t);
    if (!b->used[index] && !x->any_type)
        b->order[b->n_order++] = t;
    b->used[index] = 1;
    *out = *t;
    return 0;
}

static int missing(const char *prefix, const char *name, const char *suffix,
                   const struct expected *x, struct err *e)
{
    char want[SHAPE_CAP];
    return err_set(e, ERR_MODEL, "%s%s%s: missing, expected %s", prefix, name, suffix,
                   shape_text(x->dim, x->rank, want, sizeof want));
}

// A linear layer's own tensor in one of the two spellings; suffix starts with a dot.
static int own_take(struct binder *b, const char *prefix, const struct bind_row *row,
                    const char *suffix, const struct expected *x, struct tensor *out, struct err *e)
{
    int rc;
    char wrapped[32];
    struct tensor inner = {0};
    TRY(tensor_take(b, prefix, row->name, suffix, x, out, e));
    if (row->flags & BIND_LORA) { // only wrapped modules have the other spelling
        snprintf(wrapped, sizeof wrapped, ".base_layer%s", suffix);
        TRY(tensor_take(b, prefix, row->name, wrapped, x, &inner, e));
    }
    if (tensor_present(out) && tensor_present(&inner))
        return err_set(e, ERR_MODEL, "%s and %s are both there", out->name, inner.name);
    if (tensor_present(&inner))
        *out = inner;
    if (!tensor_present(out) && !(row->flags & BIND_OPTIONAL))
        return missing(prefix, row->name, suffix, x, e);
    return 0;
fail:
    return rc;
}

static int lora_take(struct binder *b, const char *prefix, const struct bind_row *row,
                     const struct expected *w, struct linear *out, struct err *e)
{
    static const char suffix_a[] = ".lora_A.default.weight", suffix_b[] = ".lora_B.default.weight";
    int rc;
    assert(w->rank == 2);
    // without an expected rank any shape will do: their presence is the error
    struct expected a = {b->lora_r ? 2 : 0, {b->lora_r, w->dim[1]}, false};
    struct expected c = {b->lora_r ? 2 : 0, {w->dim[0], b->lora_r}, false};
    TRY(tensor_take(b, prefix, row->name, suffix_a, &a, &out->lora_a, e));
    TRY(tensor_take(b, prefix, row->name, suffix_b, &c, &out->lora_b, e));
    bool has_a = tensor_present(&out->lora_a), has_b = tensor_present(&out->lora_b);
    if (b->lora_r == 0 && (has_a || has_b))
        return err_set(e, ERR_MODEL, "%s: unexpected, the configuration says that there is no LoRA",
                       has_a ? out->lora_a.name : out->lora_b.name);
    if (has_a != has_b)
        return has_a ? missing(prefix, row->name, suffix_b, &c, e)
                     : missing(prefix, row->name, suffix_a, &a, e);
    out->lora_scale = has_a ? b->lora_scale : 0.0f;
    return 0;
fail:
    return rc;
}

static int linear_bind(struct binder *b, const char *prefix, const struct bind_row *row,
                       const struct expected *w, struct linear *out, struct err *e)
{
    int rc;
    struct expected bias = {1, {w->dim[0]}, false};
    memset(out, 0, sizeof *out);
    TRY(own_take(b, prefix, row, ".weight", w, &out->w, e));
    if (!tensor_present(&out->w))
        return 0; // optional; a stray bias or LoRA pair shows up as unused
    out->fine = (row->flags & BIND_FINE) != 0;
    if (row->flags & BIND_BIAS) {
        struct bind_row strict = *row; // the weight is there: the bias must be too
        strict.flags &= ~(unsigned)BIND_OPTIONAL;
        TRY(own_take(b, prefix, &strict, ".bias", &bias, &out->b, e));
    }
    if (row->flags & BIND_LORA)
        TRY(lora_take(b, prefix, row, w, out, e));
    return 0;
fail:
    memset(out, 0, sizeof *out);
    return rc;
}

static int row_bind(struct binder *b, const char *prefix, const struct bind_row *row, void *target,
                    struct err *e)
{
    int rc;
    struct expected x = {.rank = row->rank};
    struct tensor ignored, *t;
    void *field = (char *)target + row->offset;
    for (unsigned i = 0; i < row->rank; i++)
        x.dim[i] = b->size[row->dim[i]];
    switch (row->kind) {
    case BIND_LINEAR:
        return linear_bind(b, prefix, row, &x, field, e);
    case BIND_UNUSED:
        x.any_type = true;
        return tensor_take(b, prefix, row->name, "", &x, &ignored, e);
    case BIND_TENSOR:
        t = field;
        TRY(tensor_take(b, prefix, row->name, "", &x, t, e));
        if (!tensor_present(t) && !(row->flags & BIND_OPTIONAL))
            return missing(prefix, row->name, "", &x, e);
        return 0;
    }
    return err_set(e, ERR_FAIL, "%s%s: unknown kind of row", prefix, row->name);
fail:
    return rc;
}

int binder_init(struct binder *b, const struct weights *w, const size_t *size, unsigned lora_r,
                float lora_scale, struct err *e)
{
    *b = (struct binder){.weights = w, .size = size, .lora_r = lora_r, .lora_scale = lora_scale};
    b->used = mem_calloc(weights_count(w), 1);
    b->order = mem_calloc(weights_count(w), sizeof *b->order);
    if (b->used && b->order)
        return 0;
    binder_free(b);
    return err_set(e, ERR_LIMIT, "out of memory for %zu tensors", weights_count(w));
}

void binder_free(struct binder *b)
{
    mem_free(b->used);
    mem_free(b->order);
    memset(b, 0, sizeof *b);
}

int bind_rows(struct binder *b, const struct bind_row *row, size_t n, const char *prefix,
              void *target, struct err *e)
{
    int rc;
    for (size_t i = 0; i < n; i++)
        TRY(row_bind(b, prefix, &row[i], target, e));
    return 0;
fail:
    return rc;
}

int bind_check_unused(const struct binder *b, struct err *e)
{
    const char *name[3] = {0};
    size_t n = 0;
    for (size_t i = 0; i < weights_count(b->weights); i++) {
        if (!b->used[i] && n++ < 3)
            name[n - 1] = weights_at(b->weights, i)->name;
    }
    if (n == 0)
        return 0;
    return err_set(e, ERR_MODEL,
                   "%zu tensor%s that the model has no place for: %.300s%s%.300s%s%.300s%s", n,
                   n == 1 ? "" : "s", name[0], name[1] ? ", " : "", name[1] ? name[1] : "",
                   name[2] ? ", " : "", name[2] ? name[2] : "", n > 3 ? ", ..." : "");
}

// SPDX-License-Identifier: MIT
// The one place that knows which heads a model may have: config.json and GGUF keys, language model, video transformer
// and Q-Former pass through it. The limits are those of the kernels (ops.h), which trust what comes to them.
//
// Easy to get wrong: a size may follow from width and count, and then it is these two keys that the file has.
#include "model/heads.h"

#include "ops/ops.h"

static bool fits(size_t d_head, size_t least)
{
    return d_head >= least && d_head <= OPS_HEAD_MAX && d_head % 2 == 0;
}

int heads_of_width(const struct heads_keys *k, size_t width, size_t n_head, size_t least,
                   size_t *d_head, struct err *e)
{
    *d_head = 0;
    if (width % n_head != 0)
        return err_set(e, ERR_MODEL, "%s: %s.%s %zu is not divisible by %s %zu", k->file,
                       k->section, k->width, width, k->n_head, n_head);
    if (!fits(width / n_head, least))
        return err_set(e, ERR_MODEL,
                       "%s: %s.%s %zu with %s %zu makes heads of %zu values, expected an even "
                       "number from %zu to %d",
                       k->file, k->section, k->width, width, k->n_head, n_head, width / n_head,
                       least, OPS_HEAD_MAX);
    *d_head = width / n_head;
    return 0;
}

int heads_of_size(const struct heads_keys *k, size_t d_head, size_t least, struct err *e)
{
    if (fits(d_head, least))
        return 0;
    return err_set(e, ERR_MODEL, "%s: %s.%s is %zu, expected an even number from %zu to %d",
                   k->file, k->section, k->d_head, d_head, least, OPS_HEAD_MAX);
}

int heads_of_groups(const struct heads_keys *k, size_t n_head, size_t n_kv, size_t d_head,
                    size_t most, struct err *e)
{
    if (n_head % n_kv != 0)
        return err_set(e, ERR_MODEL, "%s: %s.%s %zu is not divisible by %s %zu", k->file,
                       k->section, k->n_head, n_head, k->n_kv, n_kv);
    if (n_head * d_head > most)
        return err_set(e, ERR_MODEL, "%s: %s.%s %zu with heads of %zu values exceeds %zu", k->file,
                       k->section, k->n_head, n_head, d_head, most);
    return 0;
}

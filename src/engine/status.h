// SPDX-License-Identifier: MIT
// Between the public types of ivchat.h and the library's own: errors, callbacks.
#ifndef IV_ENGINE_STATUS_H
#define IV_ENGINE_STATUS_H

#include "base/err.h"
#include "base/log.h"
#include "ivchat.h"
#include "ops/ops.h"

// Copies *e to *out (out may be NULL) when rc is an error and returns rc as an iv_status.
int status_out(int rc, const struct err *e, struct iv_error *out);
// Hooks and tap that call cb; cb must outlive them.
struct hooks callback_hooks(const struct iv_callbacks *cb);
struct tap callback_tap(const struct iv_callbacks *cb);
// Hands an int32 or f32 array to cb->stage, if there is one.
void callback_stage(const struct iv_callbacks *cb, const char *name, const char *dtype,
                    const void *data, const size_t *dim, unsigned n_dim);

#endif

// SPDX-License-Identifier: MIT
// The language model's weights in large pages (base/large_pages.h).
#ifndef IV_ENGINE_WEIGHTS_COPY_H
#define IV_ENGINE_WEIGHTS_COPY_H

#include <stdbool.h>

#include "base/err.h"
#include "ivchat.h"

// weights: "auto" = *wanted, "mapped" or NULL = not; ERR_USAGE for another word.
int weights_copy_wanted(const char *weights, bool *wanted, struct err *e);

// Copies what decoding reads of the mapped files, as far as that gains and the machine has memory for it beside the
// files in the page cache; where it has not, everything stays as it is. Nobody uses the engine yet. ERR_ABORT when told
// to stop; ERR_LIMIT when the system ran out of memory in the middle: the engine can only be closed then.
int weights_copy(iv_engine *engine, struct err *e);

#endif

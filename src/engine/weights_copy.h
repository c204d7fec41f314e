// SPDX-License-Identifier: MIT
// The language model's weights in large pages (base/large_pages.h).
#ifndef IV_ENGINE_WEIGHTS_COPY_H
#define IV_ENGINE_WEIGHTS_COPY_H

#include "base/err.h"
#include "ivchat.h"

// weights: "auto" = copies what decoding reads of the mapped files, as far as that gains and the machine has memory
// for it beside the files in the page cache; "mapped" or NULL = nothing is done. ERR_USAGE for another word, ERR_ABORT
// when told to stop; no copy is no failure. Nobody uses the engine yet.
int weights_copy(iv_engine *engine, const char *weights, struct err *e);

#endif

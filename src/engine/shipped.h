// SPDX-License-Identifier: MIT
// The small model that ships with ivchat: where it lies.
#ifndef IV_ENGINE_SHIPPED_H
#define IV_ENGINE_SHIPPED_H

#include <stddef.h>

#include "base/err.h"

enum { SHIPPED_PATH = 4096 };

// Folder of the model that is used when the caller names none. ERR_MODEL with every place looked at when
// there is none. Any thread.
int shipped_find(char out[SHIPPED_PATH], struct err *e);

#endif

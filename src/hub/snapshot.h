// SPDX-License-Identifier: MIT
// From a hub name to a folder in the cache, without network.
#ifndef IV_HUB_SNAPSHOT_H
#define IV_HUB_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

// What is missing in a snapshot's folder for use, e.g. "model-00002-of-00004.safetensors"; "" = nothing.
// weights false = configuration and tokenizer suffice.
void snapshot_missing(const char *folder, bool weights, char *out, size_t cap);

// "ORG/REPO[@REVISION]" -> its folder, the caller's (mem_free). cache NULL = of the environment. ERR_MODEL
// with the command that downloads or finishes it.
int snapshot_find(const char *name, const char *cache, bool weights, char **folder, struct err *e);
// "ORG/REPO[@REVISION]:TYPE" -> the language file *-TYPE.gguf of the snapshot, in either case, the caller's. ERR_MODEL
// when there is none or more than one; ERR_USAGE for another form.
int snapshot_find_type(const char *name, const char *cache, char **file, struct err *e);

#endif

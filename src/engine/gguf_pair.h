// SPDX-License-Identifier: MIT
// A model in two GGUF files: which file belongs to which, and their tokenizers.
#ifndef IV_ENGINE_GGUF_PAIR_H
#define IV_ENGINE_GGUF_PAIR_H

#include "model/gguf_names.h"
#include "text/tokenizer.h"
#include "text/wordpiece.h"

// The vision file of the language file `path`: `named` if not NULL, else mmproj-NAME.gguf beside NAME.gguf,
// else the only mmproj-*.gguf there. *vision is the caller's (mem_free), NULL when there is none; several to
// choose from are ERR_MODEL.
int gguf_pair_find(const char *path, const char *named, char **vision, struct err *e);

// A language file in folder, for a message: *path is the caller's (mem_free), NULL when there is none.
void gguf_pair_suggest(const char *folder, char **path);

// Language tokenizer, and the Q-Former's: of the vision file, the built-in one without it. Both the caller's,
// also of a failure.
int gguf_pair_text(const struct gguf_file *language, const struct gguf_file *vision,
                   const struct model_config *c, struct tokenizer **tokenizer,
                   struct wordpiece **wordpiece, struct err *e);

#endif

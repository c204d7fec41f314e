// SPDX-License-Identifier: MIT
// Where the language model's tensors are in a GGUF file of llama.cpp's making, and the keys of our own
// vision file (docs/FORMATS.md). The one list that reading and writing share.
#ifndef IV_MODEL_GGUF_NAMES_H
#define IV_MODEL_GGUF_NAMES_H

#include "model/llm.h"
#include "weights/gguf.h"

// Which rows of the checkpoint's tensor the file's tensor has, in which order.
enum gguf_rows { GGUF_ROWS_SAME, GGUF_ROWS_Q, GGUF_ROWS_K, GGUF_ROWS_V };

struct gguf_row {
    const char *name;    // in the file; of a layer behind "blk.<i>."
    const char *own;     // as Mistral's checkpoint says it, without the prefix of layers
    bool linear;         // the field is a struct linear, else a struct tensor
    size_t offset;       // in struct llm or struct llm_layer
    enum gguf_rows rows; // taken from wqkv when the layer has one
};

extern const struct gguf_row gguf_llm_rows[], gguf_llm_layer_rows[];
extern const size_t gguf_llm_n_row, gguf_llm_layer_n_row;

// Row of the checkpoint's tensor (or of wqkv, if packed) that is row r of the file's.
size_t gguf_source_row(const struct llm_config *c, enum gguf_rows rows, bool packed, size_t r);

// "llama", "internlm2": general.architecture of the language file.
const char *gguf_architecture(enum llm_kind kind);
#define GGUF_VISION_ARCHITECTURE "ivchat"

// A checkpoint's name of the vision part <-> that in a GGUF file, whose names are short: "qformer.bert." is
// "qformer." there, and inside its layers "encoder." is left out. false: longer than cap.
bool gguf_vision_name(const char *own, char *name, size_t cap);
bool gguf_vision_own(const char *name, char *own, size_t cap);

// weights_adapt_fn: names as the tables of vit.c, qformer.c and llm.c have them. user: unused.
int gguf_adapt(void *user, struct tensor *t, char *name, size_t cap, struct err *e);

// The configuration of a language file and its vision file (NULL = none).
int gguf_config(struct model_config *c, const struct gguf_file *language,
                const struct gguf_file *vision, struct err *e);
// Whether f is a language or a vision file; ERR_MODEL naming the architecture when it is neither.
int gguf_kind(const struct gguf_file *f, bool *vision, struct err *e);

#endif

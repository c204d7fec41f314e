// SPDX-License-Identifier: MIT
// Inside of iv_quantize: the tensors to write, their types, and how their bytes come about.
#ifndef IV_ENGINE_QUANTIZING_H
#define IV_ENGINE_QUANTIZING_H

#include <regex.h>

#include "base/log.h"
#include "base/pool.h"
#include "ivchat.h"
#include "model/gguf_names.h"
#include "model/model.h"
#include "weights/gguf_write.h"
#include "weights/imatrix.h"

// What --type names: a type for most matrices, with exceptions.
struct quant_mix {
    const char *name;
    enum dtype type;
    bool mixed;       // Q4_K_M: some matrices in Q6_K
    uint32_t number;  // general.file_type
    enum dtype other; // of the vision part when nobody says
};
// NULL = no such mix; `known` lists them for a message.
const struct quant_mix *quant_mix_find(const char *name);
#define QUANT_MIXES "F32, F16, BF16, Q8_0, Q6_K, Q4_0, Q4_K_M"
// A single type, for one tensor.
bool quant_type_find(const char *name, enum dtype *t);

// A person's "REGEX=TYPE".
struct quant_rule {
    regex_t regex;
    enum dtype type;
};

// One tensor of a file to be written.
struct quant_tensor {
    char name[WEIGHTS_NAME_MAX]; // in a GGUF file at most GGUF_NAME_MAX bytes
    enum dtype type;
    unsigned rank;
    size_t dim[TENSOR_MAX_RANK];
    size_t rows, cols;
    const struct tensor *from;
    const struct linear *lora; // whose product is added; NULL = none
    enum gguf_rows order;
    bool packed;             // from is wqkv
    const float *importance; // [cols] or NULL
};

struct quant_list {
    struct quant_tensor *t; // [n]
    size_t n, cap;
};

// The tensors of the language and of the vision file.
int quant_list_language(struct quant_list *l, const struct model *m, const struct quant_mix *mix,
                        const struct quant_rule *rule, size_t n_rule, struct err *e);
int quant_list_vision(struct quant_list *l, const struct model *m, const struct quant_mix *mix,
                      const struct quant_rule *rule, size_t n_rule, struct err *e);
void quant_list_free(struct quant_list *l);

// Gives every tensor its row of m. ERR_MODEL when m has none of them or one of another width.
int quant_list_weigh(struct quant_list *l, const struct imatrix *m, const char *path,
                     size_t *n_weighed, struct err *e);

// The values of both files.
int quant_keys_language(struct gguf_writer *w, const struct model_config *c, const char *dir,
                        const char *name, const struct quant_mix *mix, struct err *e);
int quant_keys_vision(struct gguf_writer *w, const struct model_config *c, const char *dir,
                      const char *name, struct err *e);

// Progress over both files, in bytes of source.
struct quant_progress {
    const struct hooks *hooks;
    const struct iv_quantize_options *report; // whose `tensor` is told; NULL = nobody
    bool vision;
    size_t done, total;
};
// Where bytes of tensors go, in order; end: behind each tensor.
struct quant_sink {
    void *user;
    int (*data)(void *user, const void *bytes, size_t n, struct err *e);
    int (*end)(void *user, struct err *e);
};
int quant_stream(const struct quant_list *l, const struct llm_config *c, struct pool *pool,
                 struct quant_progress *p, const struct quant_sink *sink, struct err *e);
// Writes path: w holds the values already.
int quant_write(struct gguf_writer *w, const struct quant_list *l, const struct llm_config *c,
                const char *path, struct pool *pool, struct quant_progress *p, struct err *e);
size_t quant_list_bytes(const struct quant_list *l); // of source
struct quant_tensor *quant_list_add(struct quant_list *l);
void quant_tensor_shape(struct quant_tensor *t, const size_t *dim, unsigned rank);

// The other form: a snapshot in folder with LoRA merged, *file its model.safetensors. The language model's
// matrices become `type` (F32, F16 or BF16; DT_N = as they are), the rest stays as it is.
int quant_merge(const struct model *m, const char *from, const char *folder, enum dtype type,
                struct pool *pool, struct quant_progress *p, char **file, struct err *e);

#endif

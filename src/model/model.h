// SPDX-License-Identifier: MIT
// A whole checkpoint bound to its parts: video transformer, Q-Former, language model.
#ifndef IV_MODEL_MODEL_H
#define IV_MODEL_MODEL_H

#include "model/config.h"
#include "model/llm.h"
#include "model/qformer.h"
#include "model/vit.h"
#include "weights/weights.h"

// Read-only after model_open but for what an engine puts in the place of LoRA pairs; shared by any number of threads.
struct model {
    struct model_config config;
    struct weights *weights;
    struct vit vit;
    struct qformer qformer;
    struct llm llm;
    const struct tensor **order;    // [n_order] the tensors in the order of first use:
    size_t n_order, n_order_vision; // those of video transformer and Q-Former come first
};

// Opens dir (config.json and safetensors), binds every tensor and refuses missing, wrongly shaped and
// unexpected ones by name. On failure *m is as model_close leaves it.
int model_open(struct model *m, const char *dir, struct err *e);
// The same from GGUF files: a language file, and a vision file or NULL. Without one the configuration says
// text_only and vit and qformer stay empty.
int model_open_gguf(struct model *m, const char *language, const char *vision, struct err *e);
void model_close(struct model *m);

#endif

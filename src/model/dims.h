// SPDX-License-Identifier: MIT
// The sizes that weight tables refer to by name; values come from the configuration (model.c), except
// the rows of the position tables, which the checkpoint decides (SPEC 4.1, 8).
#ifndef IV_MODEL_DIMS_H
#define IV_MODEL_DIMS_H

enum dim {
    DIM_1,           // 1
    DIM_RGB,         // 3
    DIM_VIT,         // width of the video transformer
    DIM_VIT_QKV,     // 3 x width
    DIM_VIT_FFN,     // MLP hidden
    DIM_VIT_POS,     // rows of pos_embed: 1 + T0 * patches
    DIM_VIT_IMG_POS, // rows of img_pos_embed: 1 + patches
    DIM_PATCH,       // patch edge in pixels
    DIM_QF,          // width of the Q-Former
    DIM_QF_FFN,
    DIM_QF_VOCAB,    // BERT vocabulary + [DEC]
    DIM_QF_POS,      // longest text
    DIM_QUERY,       // query_tokens
    DIM_QUERY_EXTRA, // extra_query_tokens
    DIM_LLM,         // width of the language model
    DIM_LLM_Q,       // query heads x head width
    DIM_LLM_KV,      // key heads x head width
    DIM_LLM_WQKV,    // InternLM2: all of them packed
    DIM_LLM_FFN,
    DIM_LLM_VOCAB,
    DIM_N
};

#endif

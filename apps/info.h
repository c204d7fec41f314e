// SPDX-License-Identifier: MIT
// The parts of `ivchat info`: each tells its part on standard output, or into the JSON object of
// --json.
#ifndef IV_APPS_INFO_H
#define IV_APPS_INFO_H

#include "jsontext.h"
#include "work.h"

// What is known about the published weights of a variant, or about the small model.
struct published {
    const char *variant;
    const char *name, *repository; // repository NULL = none known
    const char *licence, *access;
    const char *base, *base_licence; // the language model they were made from; NULL = of none
};

// name: of the model's folder. NULL for an unknown variant.
const struct published *published_find(const char *variant, const char *name);

// json NULL = as text. Each returns an IV_ERR_* code with the message in w->error.
int info_plan(struct work *w, struct json_writer *json);
// Whether the options suffice for info_plan, before any file is read.
int info_plan_check(struct work *w);
int info_verify(struct work *w, struct json_writer *json);
// The published questions about the media that is open.
int info_ask(struct work *w, struct json_writer *json);

// Hashes of the stages that pass by, for info_ask: set w->watch before the engine is opened.
enum { STAGE_HASHES = 16 };
struct stage_hash {
    char name[32];
    size_t dim[8];
    unsigned n_dim;
    uint64_t hash;
};
struct stage_hashes {
    struct stage_hash stage[STAGE_HASHES];
    size_t n;
};
void stage_hashes_watch(void *user, const char *name, const char *dtype, const void *data,
                        const size_t *dim, unsigned n_dim);

#endif

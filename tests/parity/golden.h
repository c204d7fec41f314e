// SPDX-License-Identifier: MIT
// The golden data and the table of comparisons against it.
#ifndef IV_PARITY_GOLDEN_H
#define IV_PARITY_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "npy.h"

enum { GOLDEN_ONLY_MAX = 64 };

struct golden {
    char dir[4096];  // folder of manifest.json
    char data[4096]; // folder of the reference data (yoga.mp4 ...)
    struct js_doc doc;
    const char *only[GOLDEN_ONLY_MAX]; // substrings of the case ids to run
    bool met[GOLDEN_ONLY_MAX];
    size_t n_only;      // 0 = all
    const char *cpu;    // kernel tier, NULL = best
    const char *device; // as iv_engine_options has it, NULL = the library's choice
    int n_equal, n_different;
    bool tap; // print TAP lines too, for the test runner
};

bool golden_open(struct golden *g, const char *dir, const char *data);
void golden_close(struct golden *g);
size_t golden_count(const struct golden *g);
const js_value *golden_case(const struct golden *g, size_t i);
const js_value *golden_find(const struct golden *g, const char *id);
const char *golden_id(const js_value *c);
// Text, number or bool of inputs.key / values.key, or the fallback.
const char *golden_input(const js_value *c, const char *key, const char *fallback);
double golden_input_num(const js_value *c, const char *key, double fallback);
const js_value *golden_value(const js_value *c, const char *key);
// Reads a stored array of the case; false = the case has none of that name.
bool golden_array(const struct golden *g, const js_value *c, const char *name, struct npy *out,
                  double *max_abs, double *cosine);
// dir/file; returns out.
const char *golden_path(const struct golden *g, const char *file, char *out, size_t cap);

struct distance {
    double max_abs, cosine;
    size_t n_bad; // not finite on either side
};
struct distance golden_distance(const float *a, const float *b, size_t n);

// One line of the table. A limit below 0 is not used.
void report_distance(struct golden *g, const char *id, const char *what, struct distance d,
                     double max_abs, double cosine);
void report_ids(struct golden *g, const char *id, const char *what, const int32_t *a, size_t n_a,
                const int32_t *b, size_t n_b);
void report_text(struct golden *g, const char *id, const char *what, const char *a, const char *b);
void report_result(struct golden *g, const char *id, const char *what, bool equal, const char *fmt,
                   ...) __attribute__((format(printf, 5, 6)));

// Numbers of a JSON array as int32; caller frees. NULL when it is none.
int32_t *golden_ints(const js_value *v, size_t *n);
// prompt_ids with every -96 replaced by 96 times -1.
int32_t *golden_prompt_ids(const js_value *v, size_t *n);

#endif

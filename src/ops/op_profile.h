// SPDX-License-Identifier: MIT
// Where the time of a stream's ops goes, by stage and kind of op. Off, it costs nothing: a stream that is
// profiled has another list of functions in front of the backend's own.
//
// Only for backends whose ops are done when they return: the CPU.
#ifndef IV_OPS_OP_PROFILE_H
#define IV_OPS_OP_PROFILE_H

#include <stdint.h>

#include "base/err.h"
#include "ops/ops.h"

struct op_profile;

enum op_stage { STAGE_VISION, STAGE_QFORMER, STAGE_PREFILL, STAGE_DECODE, OP_STAGE_N };

enum op_kind {
    OP_PRODUCT,   // linear layers, whatever was joined to them, and the preparing of their inputs
    OP_ATTENTION, // rotary positions included where they are joined to it
    OP_NORM,
    OP_ACTIVATION, // GELU, SiLU
    OP_RESIDUAL,   // sums
    OP_ROPE,
    OP_MOVE, // copies, conversions, embeddings
    OP_KIND_N
};

struct op_time {
    uint64_t calls;
    double ms;           // of the thread that called
    double cpu_ms;       // of all threads of the process meanwhile
    double flops, bytes; // as ops_plan counts them
};

const char *op_stage_name(enum op_stage s);
const char *op_kind_name(enum op_kind k);

// Shared by any number of streams of one backend, which must be closed before it.
int op_profile_open(struct op_profile **out, struct err *e);
void op_profile_close(struct op_profile *p); // NULL is allowed
// What was counted so far. Any thread.
struct op_time op_profile_read(struct op_profile *p, enum op_stage s, enum op_kind k);

// From now on o's time counts in p; at first as STAGE_VISION. p NULL = nothing.
void ops_profile(struct ops *o, struct op_profile *p);
// What o works on; nothing unless it is profiled.
void ops_profile_stage(struct ops *o, enum op_stage s);

#endif

// SPDX-License-Identifier: MIT
// iv_engine_profile: what ops/op_profile.h counted, as rows.
#include "base/mem.h"
#include "engine/engine.h"
#include "ops/op_profile.h"

int iv_engine_profile(const iv_engine *g, struct iv_profile_row **rows, size_t *n,
                      struct iv_error *error)
{
    struct err e = {0};
    size_t used = 0;
    *rows = NULL;
    *n = 0;
    if (!g->profile)
        return status_out(err_set(&e, ERR_USAGE, "the engine was opened without profile"), &e,
                          error);
    struct iv_profile_row *r = mem_calloc(OP_STAGE_N * OP_KIND_N, sizeof *r);
    if (!r)
        return status_out(err_set(&e, ERR_LIMIT, "profile: out of memory"), &e, error);
    for (int s = 0; s < OP_STAGE_N; s++) {
        for (int k = 0; k < OP_KIND_N; k++) {
            struct op_time t = op_profile_read(g->profile, (enum op_stage)s, (enum op_kind)k);
            if (t.calls > 0)
                r[used++] = (struct iv_profile_row){.stage = op_stage_name((enum op_stage)s),
                                                    .kind = op_kind_name((enum op_kind)k),
                                                    .calls = t.calls,
                                                    .ms = t.ms,
                                                    .cpu_ms = t.cpu_ms,
                                                    .flop = t.flops,
                                                    .bytes = t.bytes};
        }
    }
    *rows = r;
    *n = used;
    return IV_OK;
}

// SPDX-License-Identifier: MIT
// Edges of the engine on a tiny model: plans for any machine and any prompt, short prompts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"

static const char MODEL[] = TEST_SHARED "/golden/tiny-hd";

static void needs_model(void)
{
    if (access(MODEL, R_OK) == 0)
        return;
    print_message("SKIP no golden data beside the project\n");
    skip();
}

static iv_engine *open_engine(const char *dtype, const char *cpu, int threads, bool tokenizer_only)
{
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error e;
    iv_engine *g;
    o.model = MODEL;
    o.dtype = dtype;
    o.cpu = cpu;
    o.n_threads = threads;
    o.tokenizer_only = tokenizer_only;
    if (iv_engine_open(&o, &g, &e) != IV_OK)
        fail_msg("%s", e.message);
    return g;
}

// The probe's scratch grows with the threads.
static void plans_for_many_threads(void **state)
{
    static const char *const dtypes[] = {"f32", "bf16"};
    (void)state;
    needs_model();
    for (size_t d = 0; d < 2; d++) {
        iv_engine *g = open_engine(dtypes[d], NULL, 64, false);
        struct iv_ask_options ask = iv_ask_options_default();
        struct iv_plan plan;
        struct iv_error e;
        if (iv_plan(g, NULL, 0, 0, 10, &ask, &plan, &e) != IV_OK)
            fail_msg("%s", e.message);
        assert_true(plan.prefill_s > 0 && plan.decode_s_per_token > 0);
        iv_engine_close(g);
    }
}

// Refused, not counted through.
static void plans_have_an_end(void **state)
{
    (void)state;
    needs_model();
    iv_engine *g = open_engine(NULL, NULL, 1, false);
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_media_options media = iv_media_options_default();
    struct iv_plan plan;
    struct iv_error e;
    uint64_t most = iv_engine_info(g)->llm_n_ctx_max;
    assert_int_equal(iv_plan(g, NULL, 0, 0, most + 1, &ask, &plan, &e), IV_ERR_LIMIT);
    assert_int_equal(iv_plan(g, &media, 0, 0, most, &ask, &plan, &e), IV_ERR_LIMIT);
    assert_int_equal(iv_plan(g, &media, 0, 0, SIZE_MAX, &ask, &plan, &e), IV_ERR_LIMIT);
    assert_int_equal(plan.prompt_tokens, 0);
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_for_many_threads),
        cmocka_unit_test(plans_have_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

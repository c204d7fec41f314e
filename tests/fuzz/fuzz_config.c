// SPDX-License-Identifier: MIT
// config.json. What is accepted must hold all that the rest of the program relies on.
#include <stdint.h>

#include "config_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct model_config zero;
    struct model_config c;
    struct err e = {0};
    int rc = config_parse(&c, (const char *)data, n, "config.json", "some-8B", &e);
    if (rc != 0) {
        require(rc == ERR_MODEL && e.code == rc && e.msg[0] && memcmp(&c, &zero, sizeof c) == 0);
        return 0;
    }
    require_vision(&c);
    require_llm(&c.llm);
    return 0;
}

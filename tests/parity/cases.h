// SPDX-License-Identifier: MIT
// The groups of golden cases. Each function runs c if it is of its group and says so.
#ifndef IV_PARITY_CASES_H
#define IV_PARITY_CASES_H

#include "golden.h"

bool model_case(struct golden *g, const js_value *c);
void model_cases_end(void);
bool media_case(struct golden *g, const js_value *c);
bool text_case(struct golden *g, const js_value *c);

#endif

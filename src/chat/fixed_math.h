// SPDX-License-Identifier: MIT
// exp and log that give the same bits on every IEEE machine: the C library's versions differ in the
// last bit from one library (and from one CPU) to the next, and a sampled token can hang on that bit.
#ifndef IV_CHAT_FIXED_MATH_H
#define IV_CHAT_FIXED_MATH_H

// e^x for x <= 709, relative error < 1e-15; 0 for x < -745, -inf included. Not for NaN. Pure.
double fixed_exp(double x);
// Natural logarithm of a finite x > 0, relative error < 1e-15 (absolute 1e-16 near 1). Pure.
double fixed_log(double x);

#endif

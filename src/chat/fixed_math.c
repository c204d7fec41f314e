// SPDX-License-Identifier: MIT
// exp: x = k ln 2 + r, |r| <= ln 2 / 2; Taylor polynomial of degree 13 in r (its first missing term
// is below 4e-18); times 2^k. log: x = m 2^k with m in [sqrt 1/2, sqrt 2); log m = 2 atanh(f) with
// f = (m - 1) / (m + 1), series to f^23.
//
// Only + - * / on doubles, conversions and frexp, all exact or correctly rounded by IEEE 754; the build
// forbids contraction (-ffp-contract=off), so the order written here is the order computed. A sampled
// token costs two exp for each entry of the vocabulary, so exp calls nothing of libm.
#include "chat/fixed_math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

// ln 2 in two parts; the upper has 33 bits, so that k * LN2_HI is exact for |k| < 2^20.
#define LN2_HI 6.93147180369123816490e-01
#define LN2_LO 1.90821492927058770002e-10
#define LOG2_E 1.44269504088896340736

// 2^k for -1022 <= k <= 1023: the exponent field alone.
static double power_of_2(int k)
{
    uint64_t bits = (uint64_t)(k + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

double fixed_exp(double x)
{
    // 1 / n!, n = 13 ... 0
    static const double inv_factorial[] = {
        1.0 / 6227020800.0,
        1.0 / 479001600.0,
        1.0 / 39916800.0,
        1.0 / 3628800.0,
        1.0 / 362880.0,
        1.0 / 40320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    };
    if (x < -745.0)
        return 0.0;
    double scaled = x * LOG2_E;
    int k = (int)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    double r = (x - k * LN2_HI) - k * LN2_LO;
    double sum = 0.0;
    for (unsigned i = 0; i < sizeof inv_factorial / sizeof *inv_factorial; i++)
        sum = sum * r + inv_factorial[i];
    // In two factors where 2^k is no normal number.
    return k < -1022 ? sum * power_of_2(k + 100) * power_of_2(-100) : sum * power_of_2(k);
}

double fixed_log(double x)
{
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752440) {
        m *= 2.0;
        k--;
    }
    double f = (m - 1.0) / (m + 1.0), s = f * f, sum = 0.0;
    for (int n = 23; n >= 1; n -= 2)
        sum = sum * s + 1.0 / n;
    double low = (double)k * LN2_LO + 2.0 * f * sum;
    return (double)k * LN2_HI + low;
}

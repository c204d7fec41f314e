// SPDX-License-Identifier: MIT
// Exponentials in the vector vocabulary of a lanes_*.h, which the including file has named first.
//
//   e^x = 2^n e^r, n = round(x / ln 2), r = x - n ln 2, e^r = 1 + r + r^2 q(r)
//
// q is a minimax fit over |r| <= ln 2 / 2, relative error of e^r 3e-9. ln 2 is subtracted in two parts,
// the first short enough that n times it is exact.
#ifndef IV_KERNELS_EXP_LANES_H
#define IV_KERNELS_EXP_LANES_H

// e^x within 1 ulp or so; 0 below -104, infinity above 88.73.
static inline lanes lanes_exp(lanes x)
{
    x = lanes_min(lanes_set(90.0f), lanes_max(lanes_set(-104.0f), x));
    lanes n = lanes_round(lanes_mul(x, lanes_set(1.44269504f)));
    lanes r = lanes_fnma(n, lanes_set(0.693145752f), x); // ln 2, first 16 bits
    r = lanes_fnma(n, lanes_set(1.42860677e-6f), r);     // and the rest
    lanes q = lanes_set(0.0013814467f);                  // minimax of (e^r - 1 - r) / r^2
    q = lanes_fma(q, r, lanes_set(0.008368781f));
    q = lanes_fma(q, r, lanes_set(0.041668393f));
    q = lanes_fma(q, r, lanes_set(0.1666652f));
    q = lanes_fma(q, r, lanes_set(0.49999994f));
    lanes e = lanes_fma(lanes_mul(r, r), q, r);
    return lanes_scale2(lanes_add(e, lanes_set(1.0f)), n);
}

// 2^x within 3 ulp; 0 below -150, infinity above 128; x is at most 160. The polynomial is a minimax fit of
// (2^f - 1) / f over |f| <= 1/2, relative error of 2^f 9e-8.
static inline lanes lanes_exp2(lanes x)
{
    x = lanes_max(lanes_set(-150.0f), x);
    lanes n = lanes_round(x);
    lanes f = lanes_sub(x, n);
    lanes q = lanes_set(0.00132647133f);
    q = lanes_fma(q, f, lanes_set(0.00967152324f));
    q = lanes_fma(q, f, lanes_set(0.0555073395f));
    q = lanes_fma(q, f, lanes_set(0.240222424f));
    q = lanes_fma(q, f, lanes_set(0.693147004f));
    return lanes_scale2(lanes_fma(q, f, lanes_set(1.0f)), n);
}

// The same within 3e-6 of the value, for what is rounded to bf16 next.
static inline lanes lanes_exp2_short(lanes x)
{
    x = lanes_max(lanes_set(-150.0f), x);
    lanes n = lanes_round(x);
    lanes f = lanes_sub(x, n);
    lanes q = lanes_set(0.00958285294f);
    q = lanes_fma(q, f, lanes_set(0.0559064262f));
    q = lanes_fma(q, f, lanes_set(0.240240991f));
    q = lanes_fma(q, f, lanes_set(0.693124175f));
    return lanes_scale2(lanes_fma(q, f, lanes_set(1.0f)), n);
}

#endif

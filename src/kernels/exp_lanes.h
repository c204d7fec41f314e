// SPDX-License-Identifier: MIT
// The exponential in the vector vocabulary of a lanes_*.h, which the including file has named first.
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

#endif

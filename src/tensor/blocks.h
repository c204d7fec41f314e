// SPDX-License-Identifier: MIT
// The bytes of quantised weights, as GGUF files hold them: a row is a run of blocks, each with its scales.
// Plain structs for C and CUDA C++; nothing else is in here, so that device code can include it alone.
// Little-endian; "f16" is the bits of an IEEE half. Blocks have no alignment beyond 2 bytes.
//
//   type   weights  bytes  value of weight i of a block
//   Q4_0   32       18     d (q - 8)                q 4 bits: byte i % 16, low half for i < 16
//   Q4_1   32       20     d q + m                  q as in Q4_0
//   Q5_0   32       22     d (q - 16)               low 4 bits as in Q4_0, bit 4 = bit i of qh
//   Q8_0   32       34     d q                      q signed byte
//   Q4_K   256      144    (d sc) q - (dmin mn)     8 groups of 32, sc and mn 6 bits each (below)
//   Q5_K   256      176    (d sc) q - (dmin mn)     as Q4_K with a fifth bit
//   Q6_K   256      210    (d sc) (q - 32)          16 groups of 16, sc signed byte
//
// Q4_K, Q5_K: group g < 8 of 32 weights; qs[32 (g / 2) + i] holds group 2 (g / 2) in its low half and the
// next in its high half; bit g of qh[i] is the fifth bit of weight i of group g. scales[12]:
//   g < 4    sc = scales[g] & 63                                 mn = scales[g + 4] & 63
//   g >= 4   sc = scales[g + 4] & 15 | scales[g - 4] >> 6 << 4   mn = scales[g + 4] >> 4 | scales[g] >> 6 << 4
// Q6_K: half h (128 weights), quarter c (32 weights), i < 32: weight 128 h + 32 c + i has its low 4 bits in
// ql[64 h + 32 (c & 1) + i], low half for c < 2, high half else; its upper 2 bits are bits 2c of
// qh[32 h + i]; its scale is scales[8 h + 2 c + i / 16].
//
// Source: the block layouts that GGUF files have in use (GGUF type numbers 2, 3, 6, 8, 12, 13, 14).
#ifndef IV_TENSOR_BLOCKS_H
#define IV_TENSOR_BLOCKS_H

#include <stdint.h>

#define BLOCK_SMALL 32  // weights of a Q4_0, Q4_1, Q5_0 or Q8_0 block
#define BLOCK_SUPER 256 // weights of a Q4_K, Q5_K or Q6_K block

struct block_q4_0 {
    uint16_t d; // f16
    uint8_t qs[16];
};
struct block_q4_1 {
    uint16_t d, m; // f16
    uint8_t qs[16];
};
struct block_q5_0 {
    uint16_t d;    // f16
    uint8_t qh[4]; // u32, little-endian
    uint8_t qs[16];
};
struct block_q8_0 {
    uint16_t d; // f16
    int8_t qs[32];
};
struct block_q4_k {
    uint16_t d, dmin; // f16
    uint8_t scales[12];
    uint8_t qs[128];
};
struct block_q5_k {
    uint16_t d, dmin; // f16
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
struct block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d; // f16
};

#ifdef __cplusplus
#define BLOCK_SIZE_IS(type, bytes) static_assert(sizeof(struct type) == bytes, #type)
#else
#define BLOCK_SIZE_IS(type, bytes) _Static_assert(sizeof(struct type) == bytes, #type)
#endif
BLOCK_SIZE_IS(block_q4_0, 18);
BLOCK_SIZE_IS(block_q4_1, 20);
BLOCK_SIZE_IS(block_q5_0, 22);
BLOCK_SIZE_IS(block_q8_0, 34);
BLOCK_SIZE_IS(block_q4_k, 144);
BLOCK_SIZE_IS(block_q5_k, 176);
BLOCK_SIZE_IS(block_q6_k, 210);
#undef BLOCK_SIZE_IS

#endif

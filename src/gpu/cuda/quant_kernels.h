// SPDX-License-Identifier: MIT
// Weights that stay quantised, in block formats of GGUF files: linear layers of few rows, rows to look up, and both ways
// between blocks and plain rows. The rules of device_kernels.h hold here too.
//
// Blocks as in a file (little endian, rows one after the other, no gaps; OFFSET SIZE MEANING):
//   Q8_0: 32 elements, 34 bytes     Q4_0: 32 elements, 18 bytes
//     0  2  f16 d                     0  2  f16 d
//     2 32  int8 q                    2 16  byte j: q of element j low, of j + 16 high
//     d q                             d (q - 8)
//   Q4_K: 256 elements, 144 bytes   Q6_K: 256 elements, 210 bytes
//     0  2  f16 d                       0 128  low 4 bits of q
//     2  2  f16 dmin                  128  64  high 2 bits of q
//     4 12  6-bit s and m of 8 x 32   192  16  int8 s of 16 x 16
//    16 128 4-bit q                   208   2  f16 d
//     d s q - dmin m                  d s (q - 32)
//
// On the device the same bytes lie in planes, so that a lane reads 16 aligned bytes (n = n_out, each
// plane starts at a multiple of 256 bytes):
//   Q8_0: int8 q [n, k] | f16 d [n, k/32]
//   Q4_0: 16 bytes [n, k/32] as in the block | f16 d [n, k/32]
//   Q4_K: 16 bytes [n, k/32], each as in a Q4_0 block | 16 bytes [n, k/256]: f16 d, f16 dmin, then 8 fields
//         of 12 bits from the lowest on: s, m << 6
//   Q6_K: 16 bytes [n, k/32] as in a Q4_0 block: the low 4 bits of q' | 8 bytes [n, k/32]: the high 2 bits,
//         element 16 i + 4 f + b in bits 2 f of byte 4 i + b | int8 s [n, k/16] | f16 d [n, k/256]
//         q' is q - 32 in two's complement
#ifndef IV_GPU_CUDA_QUANT_KERNELS_H
#define IV_GPU_CUDA_QUANT_KERNELS_H

#include "gpu/cuda/device_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cuda_quant { CUDA_QUANT_Q8_0, CUDA_QUANT_Q4_0, CUDA_QUANT_Q4_K, CUDA_QUANT_Q6_K };

int cuda_quant_block(enum cuda_quant t);       // elements of a block: 32 or 256; k is a multiple
int cuda_quant_block_bytes(enum cuda_quant t); // in a file
size_t cuda_quant_bytes(enum cuda_quant t, int n_out, int k); // of all planes

struct cuda_quant_weight {
    enum cuda_quant type;
    int n_out, k;
    void *planes; // cuda_quant_bytes, 256-byte aligned
};

// ---- quant_repack.cu

// Rows [first, first + rows) of w from blocks, those rows alone (device, 2-byte aligned).
int cuda_quant_repack(const struct cuda_quant_weight *w, const void *blocks, int first, int rows,
                      void *stream);
// out [out.rows, k] = rows from `first` on: the format's f32 value, rounded once if out is bf16.
int cuda_quant_unpack(struct cuda_view out, const struct cuda_quant_weight *w, int first,
                      void *stream);
// out [out.rows, k] = rows ids[i] (device; NULL: row i), as cuda_quant_unpack has them.
int cuda_quant_embed(struct cuda_view out, const struct cuda_quant_weight *w, const int32_t *ids,
                     void *stream);

// ---- quant_pack.cu

// Blocks of w [n_out, k], k a multiple of the block: the scale of least squared error out of a few,
// rounding to nearest. blocks: as in a file, 2-byte aligned. A weight that is not finite gives garbage.
int cuda_quant_pack(void *blocks, enum cuda_quant t, struct cuda_view w, void *stream);

// ---- quant_linear.cu

// x as int8 blocks of 32 with a scale each: int8 [rows, k], then f32 (scale, sum of the int8) [rows, k/32].
// A block with a value that is not finite has the scale NaN.
size_t cuda_quant_input_bytes(int rows, int k); // k a multiple of 32
struct cuda_quant_input {
    enum cuda_input kind; // as for cuda_prepare, without LoRA
    struct cuda_view x;   // [rows, d_in <= k]: columns behind are zero
    struct cuda_view up;
    const float *norm_w;
    float eps;
    int k;
    void *out; // cuda_quant_input_bytes, 16-byte aligned
};
int cuda_quant_input(const struct cuda_quant_input *a, void *stream);

// y = x W^T as cuda_few_linear; integer products inside a block, f32 between blocks. The planes are read before
// the kernel in front has ended: synchronise the stream once after they were written.
struct cuda_quant_linear {
    struct cuda_quant_weight w;
    const void *x;      // of cuda_quant_input, y.rows rows
    const float *bias;  // f32 [n_out] or NULL
    struct cuda_view y; // [rows, n_out], f32 or bf16; any number of rows, 8 at a time
    bool add;           // y (f32) += scale * (result), else y = result
    const float *scale; // f32 [n_out], only with add; NULL = 1
};
int cuda_quant_linear(const struct cuda_quant_linear *a, void *stream);
// n of the same x and number of rows, whatever their types; of one or two rows in one launch.
enum { CUDA_QUANT_PARTS = 4 };
int cuda_quant_linears(const struct cuda_quant_linear *a, int n, void *stream);

#ifdef __cplusplus
}
#endif

#endif

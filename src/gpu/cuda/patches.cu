// SPDX-License-Identifier: MIT
// Square patches of frames as rows: what the patch convolution reads when it is a product.
#include "gpu/cuda/groups.cuh"

enum { THREADS = 256 };

struct patches {
    struct cuda_view out;
    const void *pixels; // [n_frame, 3, size, size]
    int size, patch;
};

template <bool BF16, bool PIXELS_BF16, int W>
__global__ void __launch_bounds__(THREADS) gather_group(struct patches a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, row;
    int per_row = a.out.cols / W, col;
    if (i >= (int64_t)a.out.rows * per_row)
        return;
    group_at(i, per_row, &row, &col);
    col *= W;
    int side = a.size / a.patch, area = a.patch * a.patch, in_frame = (int)(row % (side * side));
    int64_t frame = row / (side * side) * 3 * a.size * a.size;
    int64_t corner =
        frame + (int64_t)(in_frame / side) * a.patch * a.size + in_frame % side * a.patch;
    group<W> g;
#pragma unroll
    for (int j = 0; j < W; j++) {
        int c = col + j, channel = c / area, y = c % area / a.patch, x = c % a.patch;
        int64_t at = corner + ((int64_t)channel * a.size + y) * a.size + x;
        g.v[j] = channel < 3 ? load_f32(a.pixels, PIXELS_BF16, at) : 0.0f;
    }
    store_group<BF16, W>(a.out.data, row * a.out.stride + col, g);
}

int cuda_patches(struct cuda_view out, const void *pixels, bool pixels_bf16, int n_frame, int size,
                 int patch, void *stream)
{
    static decltype(&gather_group<false, false, 1>) const kernels[2][2][2] = {
        {{gather_group<false, false, 1>, gather_group<false, true, 1>},
         {gather_group<true, false, 1>, gather_group<true, true, 1>}},
        {{gather_group<false, false, 4>, gather_group<false, true, 4>},
         {gather_group<true, false, 8>, gather_group<true, true, 8>}},
    };
    struct patches a = {out, pixels, size, patch};
    a.out.rows = n_frame * (size / patch) * (size / patch);
    if (a.out.rows == 0 || out.cols == 0)
        return 0;
    bool wide = view_wide(out);
    auto kernel = kernels[wide][out.is_bf16][pixels_bf16];
    int64_t n = (int64_t)a.out.rows * (out.cols / group_width(wide, out.is_bf16, out.is_bf16));
    kernel<<<(unsigned)((n + THREADS - 1) / THREADS), THREADS, 0, (cudaStream_t)stream>>>(a);
    return (int)cudaGetLastError();
}

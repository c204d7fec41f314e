// SPDX-License-Identifier: MIT
// Products with quantised weights for few rows, at the speed of the memory.
//
// The rows of x become int8 in blocks of 32 (cuda_quant_input). A warp owns R outputs; its lanes walk
// along k, 16 bytes of weights each (quant_planes.cuh), U such loads in flight for each output, and
// multiply them with M rows of x, four products an instruction. Sums of a block are exact integers; what
// is added in f32, and in which order, does not depend on M, R or U: every rounding is spelt out, so
// that a row has the same bits however many rows there are.
#include "gpu/cuda/overlap.cuh"
#include "gpu/cuda/quant_planes.cuh"

enum {
    THREADS = 128,
    ROWS = 8,            // of x at once
    SHARED_ROWS = 2,     // of x where weights share a launch: with more, the kernel of all types runs out of registers
    WIDE_OUT = 8192,     // outputs that are many waves of blocks: two of them share what is read of one row of x
    INPUT_THREADS = 256, // of cuda_quant_input, four elements each
    INPUT_STEP = 4 * INPUT_THREADS,
};

// ---- the input

static size_t input_scales_at(int rows, int k)
{
    return ((size_t)rows * (size_t)k + 15) / 16 * 16;
}

size_t cuda_quant_input_bytes(int rows, int k)
{
    return input_scales_at(rows, k) + (size_t)rows * (size_t)(k / QUANT_BLOCK) * sizeof(float2);
}

struct input {
    struct cuda_quant_input a;
    int8_t *q;
    float2 *scale;
    bool x_wide, up_wide;
};

// Four elements from column c on, zero behind the last.
__device__ inline float4 load_four(const struct cuda_view &x, bool wide, int64_t row, int c)
{
    int64_t at = row * x.stride + c;
    if (wide && c < x.cols) {
        if (!x.is_bf16)
            return *(const float4 *)((const float *)x.data + at);
        uint2 u = *(const uint2 *)((const __nv_bfloat16 *)x.data + at);
        return make_float4(__uint_as_float(u.x << 16), __uint_as_float(u.x & 0xffff0000u),
                           __uint_as_float(u.y << 16), __uint_as_float(u.y & 0xffff0000u));
    }
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = c + i < x.cols ? load_f32(x.data, x.is_bf16, at + i) : 0.0f;
    return make_float4(v[0], v[1], v[2], v[3]);
}

__device__ inline float silu(float x)
{
    return x / (1.0f + expf(-x));
}

__device__ inline float gelu(float x)
{
    return 0.5f * x * erfcf(-x * 0.70710678118654752440f);
}

// Sum and largest value over the 8 threads of a block of 32 elements.
__device__ inline float eight_sum(float v)
{
    for (int i = 4; i > 0; i /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, i);
    return v;
}

__device__ inline float eight_max(float v)
{
    for (int i = 4; i > 0; i /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, i));
    return v;
}

__global__ void __launch_bounds__(INPUT_THREADS) quantise_input(struct input in)
{
    __shared__ float shared[WARP];
    const struct cuda_quant_input &a = in.a;
    overlap_next();
    int64_t row = blockIdx.y;
    int c = (int)blockIdx.x * INPUT_STEP + (int)threadIdx.x * 4;
    float w[4] = {};
    if (a.kind == CUDA_INPUT_RMS) // constants: read while the kernel in front ends
#pragma unroll
        for (int i = 0; i < 4; i++)
            w[i] = c + i < a.x.cols ? a.norm_w[c + i] : 0.0f;
    overlap_wait();
    float4 v = load_four(a.x, in.x_wide, row, c);
    if (a.kind == CUDA_INPUT_RMS) { // every block sums the whole row
        float sum = 0.0f;
#pragma unroll 4
        for (int i = (int)threadIdx.x * 4; i < a.x.cols; i += INPUT_STEP) {
            float4 s = load_four(a.x, in.x_wide, row, i);
            sum = fmaf(s.x, s.x, fmaf(s.y, s.y, fmaf(s.z, s.z, fmaf(s.w, s.w, sum))));
        }
        float f = 1.0f / sqrtf(block_sum(sum, shared) / (float)a.x.cols + a.eps);
        v = make_float4(v.x * f * w[0], v.y * f * w[1], v.z * f * w[2], v.w * f * w[3]);
    } else if (a.kind == CUDA_INPUT_SILU_MUL) {
        float4 u = load_four(a.up, in.up_wide, row, c);
        v = make_float4(silu(v.x) * u.x, silu(v.y) * u.y, silu(v.z) * u.z, silu(v.w) * u.w);
    } else if (a.kind == CUDA_INPUT_GELU) {
        v = make_float4(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w));
    }
    float most = eight_max(fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
    // fmaxf drops NaN, 0 times NaN or infinity does not
    float poison = eight_sum(0.0f * v.x + 0.0f * v.y + 0.0f * v.z + 0.0f * v.w);
    float to_int = most > 0.0f ? 127.0f / most : 0.0f;
    int q[4] = {__float2int_rn(v.x * to_int), __float2int_rn(v.y * to_int),
                __float2int_rn(v.z * to_int), __float2int_rn(v.w * to_int)};
    float sum = eight_sum((float)(q[0] + q[1] + q[2] + q[3]));
    if (c >= a.k)
        return;
    unsigned word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        word |= ((unsigned)q[i] & 0xff) << 8 * i;
    *(unsigned *)(in.q + row * a.k + c) = word;
    if (threadIdx.x % 8 == 0)
        in.scale[row * (a.k / QUANT_BLOCK) + c / QUANT_BLOCK] =
            make_float2(most / 127.0f + poison, sum);
}

static bool four_wide(struct cuda_view v)
{
    return (uintptr_t)v.data % 16 == 0 && v.stride % 4 == 0 && v.cols % 4 == 0;
}

int cuda_quant_input(const struct cuda_quant_input *a, void *stream)
{
    if (a->x.rows == 0 || a->k == 0)
        return 0;
    struct input in = {*a, (int8_t *)a->out, NULL, four_wide(a->x), four_wide(a->up)};
    in.scale = (float2 *)((char *)a->out + input_scales_at(a->x.rows, a->k));
    dim3 grid((unsigned)((a->k + INPUT_STEP - 1) / INPUT_STEP), (unsigned)a->x.rows);
    return overlap_launch_sharing(CARVEOUT_LITTLE, quantise_input, grid, INPUT_THREADS, 0, stream,
                                  in);
}

// ---- the product

struct product {
    struct quant_planes w;
    const int4 *x;         // int8 [rows, k]
    const float2 *x_scale; // [rows, k / 32]
    const float *bias, *scale;
    struct cuda_view y;
    bool add;
    int k, n_out, first_row; // of y
};

template <int T>
__device__ inline float unit_product(const struct quant_unit &w, const int4 *x, float2 s, float acc)
{
    int4 x0 = x[0];
    int low =
        __dp4a(w.w[3], x0.w, __dp4a(w.w[2], x0.z, __dp4a(w.w[1], x0.y, __dp4a(w.w[0], x0.x, 0))));
    if (T == CUDA_QUANT_Q8_0)
        return fmaf(__fmul_rn(w.a[0], s.x), (float)low, acc);
    int4 x1 = x[1];
    int high = T == CUDA_QUANT_Q6_K ? 0 : low;
    high = __dp4a(w.w[7], x1.w,
                  __dp4a(w.w[6], x1.z, __dp4a(w.w[5], x1.y, __dp4a(w.w[4], x1.x, high))));
    float sum = __fmul_rn(w.a[1], (float)high);
    if (T == CUDA_QUANT_Q6_K)
        sum = fmaf(w.a[0], (float)low, sum);
    else
        sum = fmaf(w.b, s.y, sum);
    return fmaf(s.x, sum, acc);
}

// Blocks that a multiprocessor holds, hence the registers of a thread: bytes in flight are the speed. 64
// registers with one row of x and one output, so that 4096 outputs are a single wave on 132 multiprocessors.
constexpr int blocks_per_sm(int rows, int outputs)
{
    return rows == 1 ? outputs == 1 ? 8 : 6 : rows == 2 ? 5 : rows <= 4 ? 4 : 3;
}

template <int T, int M, int R, int U>
__device__ inline void multiply_block(const struct product &p, int block)
{
    constexpr int X_STEP = T == CUDA_QUANT_Q8_0 ? 1 : 2; // int4 of x for a unit
    int lane = (int)threadIdx.x % WARP;
    int first = (block * (THREADS / WARP) + (int)threadIdx.x / WARP) * R;
    if (first >= p.n_out)
        return;
    overlap_next();
    float acc[M][R] = {};
    const int4 *x[M]; // behind the last row and the last output: those again, not stored
    const float2 *x_scale[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
        int64_t row = min(p.first_row + m, p.y.rows - 1);
        x[m] = p.x + row * (p.k / 16);
        x_scale[m] = p.x_scale + row * (p.k / QUANT_BLOCK);
    }
    struct quant_raw g[U][R];
#pragma unroll
    for (int i = 0; i < U; i++)
        if (lane + i * WARP < p.w.n_unit)
#pragma unroll
            for (int r = 0; r < R; r++)
                g[i][r] = quant_load<T>(p.w, min(first + r, p.n_out - 1), lane + i * WARP);
    overlap_wait(); // the first weights are on their way, x may be read
    for (int u0 = lane; u0 < p.w.n_unit; u0 += WARP * U)
#pragma unroll
        for (int i = 0; i < U; i++) {
            int u = u0 + i * WARP, next = u + WARP * U;
            if (u >= p.w.n_unit)
                break;
            struct quant_unit w[R];
#pragma unroll
            for (int r = 0; r < R; r++)
                w[r] = quant_open<T>(g[i][r], u);
            if (next < p.w.n_unit) // under way while this one and those behind it are multiplied
#pragma unroll
                for (int r = 0; r < R; r++)
                    g[i][r] = quant_load<T>(p.w, min(first + r, p.n_out - 1), next);
#pragma unroll
            for (int m = 0; m < M; m++) {
                float2 s = x_scale[m][u * X_STEP / 2];
#pragma unroll
                for (int r = 0; r < R; r++)
                    acc[m][r] = unit_product<T>(w[r], x[m] + u * X_STEP, s, acc[m][r]);
            }
        }
    float own = 0.0f; // lane m R + r stores row m of output r
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int r = 0; r < R; r++) {
            float sum = warp_sum(acc[m][r]);
            own = lane == m * R + r ? sum : own;
        }
    int row = p.first_row + lane / R, col = first + lane % R;
    if (lane >= M * R || row >= p.y.rows || col >= p.n_out)
        return;
    int64_t at = row * p.y.stride + col;
    if (p.bias)
        own = __fadd_rn(own, p.bias[col]);
    if (p.add)
        own = fmaf(p.scale ? p.scale[col] : 1.0f, own, ((const float *)p.y.data)[at]);
    store_f32(p.y.data, p.y.is_bf16, at, own);
}

template <int T, int M, int R, int U>
__global__ void __launch_bounds__(THREADS, blocks_per_sm(M, R)) quant_product(struct product p)
{
    multiply_block<T, M, R, U>(p, (int)blockIdx.x);
}

struct group_products {
    struct product part[CUDA_QUANT_PARTS];
    enum cuda_quant type[CUDA_QUANT_PARTS];
    int end[CUDA_QUANT_PARTS]; // blocks of the parts up to this one
    int n;
};

// Several weights of one x in a launch.
template <int M, int R, int U>
__global__ void __launch_bounds__(THREADS, blocks_per_sm(M, R)) quant_products(struct group_products ps)
{
    int i = 0;
    while (i + 1 < ps.n && (int)blockIdx.x >= ps.end[i])
        i++;
    const struct product &p = ps.part[i];
    int block = (int)blockIdx.x - (i > 0 ? ps.end[i - 1] : 0);
    if (ps.type[i] == CUDA_QUANT_Q8_0)
        multiply_block<CUDA_QUANT_Q8_0, M, R, U>(p, block);
    else if (ps.type[i] == CUDA_QUANT_Q4_0)
        multiply_block<CUDA_QUANT_Q4_0, M, R, U>(p, block);
    else if (ps.type[i] == CUDA_QUANT_Q4_K)
        multiply_block<CUDA_QUANT_Q4_K, M, R, U>(p, block);
    else
        multiply_block<CUDA_QUANT_Q6_K, M, R, U>(p, block);
}

template <int M, int R, int U> static int run_products(struct group_products *ps, void *stream)
{
    constexpr int OUTPUTS = R * (THREADS / WARP); // of a block
    int n = 0;
    for (int i = 0; i < ps->n; i++)
        ps->end[i] = n += (ps->part[i].n_out + OUTPUTS - 1) / OUTPUTS;
    dim3 grid((unsigned)n);
    if constexpr (M <= SHARED_ROWS)
        if (ps->n > 1)
            return overlap_launch_sharing(CARVEOUT_LITTLE, quant_products<M, R, U>, grid, THREADS, 0,
                                          stream, *ps);
    auto kernel = ps->type[0] == CUDA_QUANT_Q8_0   ? quant_product<CUDA_QUANT_Q8_0, M, R, U>
                  : ps->type[0] == CUDA_QUANT_Q4_0 ? quant_product<CUDA_QUANT_Q4_0, M, R, U>
                  : ps->type[0] == CUDA_QUANT_Q4_K ? quant_product<CUDA_QUANT_Q4_K, M, R, U>
                                                   : quant_product<CUDA_QUANT_Q6_K, M, R, U>;
    return overlap_launch_sharing(CARVEOUT_LITTLE, kernel, grid, THREADS, 0, stream, ps->part[0]);
}

static int run_rows(struct group_products *ps, int rows, int n_out, void *stream)
{
    if (rows == 1)
        return n_out >= WIDE_OUT ? run_products<1, 2, 2>(ps, stream)
                                 : run_products<1, 1, 4>(ps, stream);
    if (rows == 2)
        return run_products<2, 2, 2>(ps, stream);
    return rows <= 4 ? run_products<4, 4, 1>(ps, stream) : run_products<8, 4, 1>(ps, stream);
}

int cuda_quant_linears(const struct cuda_quant_linear *a, int n, void *stream)
{
    if (n > 1 && a[0].y.rows > SHARED_ROWS) {
        int error = 0;
        for (int i = 0; i < n && error == 0; i++)
            error = cuda_quant_linears(a + i, 1, stream);
        return error;
    }
    struct group_products ps = {};
    int error = 0, n_out = 0, rows = n > 0 ? a[0].y.rows : 0;
    if (n > CUDA_QUANT_PARTS)
        return cudaErrorInvalidValue;
    for (int i = 0; i < n; i++) {
        const struct cuda_quant_weight *w = &a[i].w;
        if (w->n_out == 0)
            continue;
        ps.type[ps.n] = w->type;
        ps.part[ps.n++] = {quant_planes_of(w->type, w->n_out, w->k, w->planes),
                           (const int4 *)a[i].x,
                           (const float2 *)((const char *)a[i].x + input_scales_at(rows, w->k)),
                           a[i].bias,
                           a[i].scale,
                           a[i].y,
                           a[i].add,
                           w->k,
                           w->n_out,
                           0};
        n_out += w->n_out;
    }
    for (int first = 0; first < rows && n_out > 0 && error == 0; first += ROWS) {
        for (int i = 0; i < ps.n; i++)
            ps.part[i].first_row = first;
        error = run_rows(&ps, min((int)ROWS, rows - first), n_out, stream);
    }
    return error;
}

int cuda_quant_linear(const struct cuda_quant_linear *a, void *stream)
{
    return cuda_quant_linears(a, 1, stream);
}

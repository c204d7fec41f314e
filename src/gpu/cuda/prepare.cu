// SPDX-License-Identifier: MIT
// The input of a linear layer made of activations: copied, normalised (RMS), silu(gate) * up or GELU, in the
// layer's type and padded; and for LoRA the small products t = scale * f(x) A^T as further columns.
//
// One row at a time, in vectors of 8 elements: vector v of a row belongs to thread v % threads of the block, and
// the block's size depends on d_in alone, so that a row's sums have one order whoever asks. Without LoRA a block
// makes a row. With LoRA up to LORA_BLOCKS blocks each make the whole row again (from a cache, cheaper than telling each
// other), store their part of it and take the products with their part of A, which they have read before the
// row was there.
//
// Three ways to read: aligned f32, aligned bf16, and anything else element by element (ANY).
#include "gpu/cuda/device.cuh"
#include "gpu/cuda/gelu.cuh"
#include "gpu/cuda/machine.cuh"
#include "gpu/cuda/overlap.cuh"

enum mode { MODE_F32, MODE_BF16, MODE_ANY };

enum {
    VECTOR = 8,         // elements of a vector
    MOST_THREADS = 512, // of a block
    LORA_BLOCKS = 16,   // of a row with LoRA,
    LORA_ROWS = 4,      // each with this many rows of A at most: 64 in all
    ONE_VECTOR = 1,     // kept in registers by a thread: up to 4096 elements a row,
    FEW_VECTORS = 2,    // up to 8192,
    MANY_VECTORS = 4,   // up to 16384; what is behind them is read when it is needed
};

struct vector {
    float e[VECTOR];
};

__device__ inline struct vector join(float4 a, float4 b)
{
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

__device__ inline float2 unpack_bf16(unsigned u)
{
    return make_float2(__uint_as_float(u << 16), __uint_as_float(u & 0xffff0000u));
}

// A vector as it is read: bf16 stays packed until it is used.
template <int MODE> struct raw {
    struct vector v;
};
template <> struct raw<MODE_BF16> {
    uint4 v;
};

__device__ inline struct vector unpack(struct vector v)
{
    return v;
}

__device__ inline struct vector unpack(uint4 u)
{
    float2 a = unpack_bf16(u.x), b = unpack_bf16(u.y), c = unpack_bf16(u.z), d = unpack_bf16(u.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}

// Elements c .. c+7 of the row that starts at element `at` of p; zeros from n on (MODE_ANY alone asks). ONCE: nobody
// reads them again, so they are the first to leave the caches (bf16 only).
template <int MODE, bool ONCE = false>
__device__ inline struct raw<MODE> load_vector(const void *p, bool is_bf16, int64_t at, int c, int n)
{
    struct raw<MODE> r;
    if constexpr (MODE == MODE_BF16) {
        const uint4 *u = (const uint4 *)((const __nv_bfloat16 *)p + at + c);
        r.v = ONCE ? __ldcs(u) : *u;
    } else if constexpr (MODE == MODE_F32) {
        const float4 *f = (const float4 *)((const float *)p + at + c);
        r.v = join(f[0], f[1]);
    } else {
        for (int i = 0; i < VECTOR; i++)
            r.v.e[i] = c + i < n ? load_f32(p, is_bf16, at + c + i) : 0.0f;
    }
    return r;
}

template <int MODE> __device__ inline void store_vector(void *p, bool is_bf16, int64_t at, int c, int n, struct vector v)
{
    if (MODE == MODE_ANY) {
        for (int i = 0; i < VECTOR; i++)
            if (c + i < n)
                store_f32(p, is_bf16, at + c + i, v.e[i]);
    } else if (is_bf16) {
        *(uint4 *)((__nv_bfloat16 *)p + at + c) = make_uint4(pack_bf16(v.e[0], v.e[1]), pack_bf16(v.e[2], v.e[3]),
                                                             pack_bf16(v.e[4], v.e[5]), pack_bf16(v.e[6], v.e[7]));
    } else {
        float4 *f = (float4 *)((float *)p + at + c);
        f[0] = make_float4(v.e[0], v.e[1], v.e[2], v.e[3]);
        f[1] = make_float4(v.e[4], v.e[5], v.e[6], v.e[7]);
    }
}

// f of one vector; second: up or the norm's weights.
template <int KIND> __device__ inline struct vector transform(struct vector x, struct vector second, float inverse)
{
    for (int i = 0; i < VECTOR; i++) {
        float v = x.e[i];
        if (KIND == CUDA_INPUT_RMS)
            v = second.e[i] * (v * inverse);
        if (KIND == CUDA_INPUT_SILU_MUL)
            v = __fdividef(v, 1.0f + expf(-v)) * second.e[i];
        if (KIND == CUDA_INPUT_GELU)
            v = gelu(v);
        x.e[i] = v;
    }
    return x;
}

// Blocks that a processor must hold: as many as their registers allow without spilling.
template <int KIND, int N_KEPT, bool LORA> constexpr int LEAST_BLOCKS =
    LORA                                                                                     ? 1
    : N_KEPT * (KIND == CUDA_INPUT_RMS || KIND == CUDA_INPUT_SILU_MUL ? 2 : 1) > FEW_VECTORS ? 2
                                                                                             : 3;

template <int KIND, int MODE, int N_KEPT, bool LORA>
__global__ void __launch_bounds__(MOST_THREADS, LEAST_BLOCKS<KIND, N_KEPT, LORA>) prepare(struct cuda_prepare a)
{
    constexpr int N_A = LORA ? LORA_ROWS : 1;
    constexpr bool BINARY = KIND == CUDA_INPUT_RMS || KIND == CUDA_INPUT_SILU_MUL;
    constexpr int SECOND_MODE = KIND == CUDA_INPUT_RMS && MODE == MODE_BF16 ? MODE_F32 : MODE; // norm_w is f32
    constexpr bool ONCE = !LORA && (KIND == CUDA_INPUT_SILU_MUL || KIND == CUDA_INPUT_GELU);
    constexpr int A_MODE = MODE == MODE_ANY ? MODE_ANY : MODE_BF16;
    __shared__ float shared[LORA_ROWS][WARP];
    const int n = a.x.cols, n_vector = (n + VECTOR - 1) / VECTOR, threads = blockDim.x, tid = threadIdx.x;
    const int row = LORA ? blockIdx.y : blockIdx.x;
    const int part = LORA ? blockIdx.x : 0, n_part = LORA ? LORA_BLOCKS : 1;
    // rows of A of this block: part, part + n_part ...
    const int n_a = LORA && a.n_lora > part ? (a.n_lora - part + n_part - 1) / n_part : 0;
    const int64_t at = row * a.x.stride, out_at = (int64_t)row * a.k_out;
    const void *second_of = KIND == CUDA_INPUT_RMS ? a.norm_w : a.up.data;
    const int64_t second_at = KIND == CUDA_INPUT_RMS ? 0 : row * a.up.stride;
    const bool second_bf16 = KIND != CUDA_INPUT_RMS && a.up.is_bf16;

    auto load_a = [&](int q, int c) {
        return load_vector<A_MODE>(a.lora_a, true, (int64_t)(part + q * n_part) * n, c, n);
    };
    auto load_x = [&](int c) { return load_vector<MODE, ONCE>(a.x.data, a.x.is_bf16, at, c, n); };
    auto load_second = [&](int c) { return load_vector<SECOND_MODE, ONCE>(second_of, second_bf16, second_at, c, n); };
    // A thread behind the row's end reads its last vector again, so that the reads need no branches.
    auto column = [&](int i) { return min(tid + i * threads, n_vector - 1) * VECTOR; };

    overlap_next();
    struct raw<A_MODE> lora[N_A][N_KEPT];
#pragma unroll
    for (int q = 0; q < N_A; q++)
        if (q < n_a) {
#pragma unroll
            for (int i = 0; i < N_KEPT; i++)
                lora[q][i] = load_a(q, column(i));
        }
    overlap_wait();

    struct raw<MODE> x[N_KEPT];
    struct raw<SECOND_MODE> second[N_KEPT];
#pragma unroll
    for (int i = 0; i < N_KEPT; i++) {
        x[i] = load_x(column(i));
        if (BINARY)
            second[i] = load_second(column(i));
    }

    float inverse = 0.0f;
    if (KIND == CUDA_INPUT_RMS) {
        float sum = 0.0f;
        auto add_squares = [&](struct vector y) {
            for (int j = 0; j < VECTOR; j++)
                sum = fmaf(y.e[j], y.e[j], sum);
        };
#pragma unroll
        for (int i = 0; i < N_KEPT; i++)
            if (tid + i * threads < n_vector)
                add_squares(unpack(x[i].v));
        for (int v = tid + N_KEPT * threads; v < n_vector; v += threads)
            add_squares(unpack(load_x(v * VECTOR).v));
        inverse = 1.0f / sqrtf(block_sum(sum, shared[0]) / (float)n + a.eps);
    }

    float dot[N_A] = {};
    auto add_products = [&](int q, struct vector y, struct vector row_of_a) {
        for (int j = 0; j < VECTOR; j++)
            dot[q] = fmaf(y.e[j], row_of_a.e[j], dot[q]);
    };
    // Stores f(x) of vector v if it is this block's part and returns it as the layer will read it.
    auto finish = [&](int v, struct vector y) {
        if (v / WARP % n_part == part) // all lanes or none
            store_vector<MODE>(a.out, a.out_bf16, out_at, v * VECTOR, n, y);
        for (int j = 0; j < VECTOR; j++)
            y.e[j] = __bfloat162float(__float2bfloat16_rn(y.e[j]));
        return y;
    };
#pragma unroll
    for (int i = 0; i < N_KEPT; i++)
        if (tid + i * threads < n_vector) {
            struct vector y = unpack(x[i].v), z = BINARY ? unpack(second[i].v) : y;
            y = finish(tid + i * threads, transform<KIND>(y, z, inverse));
#pragma unroll
            for (int q = 0; q < N_A; q++)
                if (q < n_a)
                    add_products(q, y, unpack(lora[q][i].v));
        }
    for (int v = tid + N_KEPT * threads; v < n_vector; v += threads) {
        struct vector y = unpack(load_x(v * VECTOR).v), z = BINARY ? unpack(load_second(v * VECTOR).v) : y;
        y = finish(v, transform<KIND>(y, z, inverse));
#pragma unroll
        for (int q = 0; q < N_A; q++)
            if (q < n_a)
                add_products(q, y, unpack(load_a(q, v * VECTOR).v));
    }

    if (LORA) {
        int warp = tid / WARP, lane = tid % WARP, n_warp = threads / WARP;
#pragma unroll
        for (int q = 0; q < N_A; q++)
            dot[q] = warp_sum(dot[q]);
        __syncthreads(); // block_sum may still be reading
        if (lane == 0) {
#pragma unroll
            for (int q = 0; q < N_A; q++)
                shared[q][warp] = dot[q];
        }
        __syncthreads();
        for (int q = warp; q < n_a; q += n_warp) {
            float t = warp_sum(lane < n_warp ? shared[q][lane] : 0.0f);
            if (lane == 0)
                store_f32(a.out, a.out_bf16, out_at + n + part + q * n_part, a.lora_scale * t);
        }
    }
    if (part == 0)
        for (int c = n + a.n_lora + tid; c < a.k_out; c += threads)
            store_f32(a.out, a.out_bf16, out_at + c, 0.0f);
}

static bool aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

static bool view_aligned(const struct cuda_view *v)
{
    return aligned(v->data) && v->stride % (v->is_bf16 ? 8 : 4) == 0;
}

static enum mode choose_mode(const struct cuda_prepare *a)
{
    bool ok = a->x.cols % VECTOR == 0 && view_aligned(&a->x) && aligned(a->out) &&
              a->k_out % (a->out_bf16 ? 8 : 4) == 0 && (!a->lora_a || aligned(a->lora_a));
    if (a->kind == CUDA_INPUT_SILU_MUL)
        ok = ok && view_aligned(&a->up) && a->up.is_bf16 == a->x.is_bf16;
    if (a->kind == CUDA_INPUT_RMS)
        ok = ok && aligned(a->norm_w);
    return !ok ? MODE_ANY : a->x.is_bf16 ? MODE_BF16 : MODE_F32;
}

// Whole warps, and the row's vectors shared out evenly. A function of n alone: see above.
static int choose_threads(int n)
{
    int n_vector = (n + VECTOR - 1) / VECTOR, n_turn = (n_vector + MOST_THREADS - 1) / MOST_THREADS;
    return ((n_vector + n_turn - 1) / n_turn + WARP - 1) / WARP * WARP;
}

template <int KIND, int MODE, int N_KEPT> static int launch(const struct cuda_prepare *a, void *stream)
{
    unsigned rows = (unsigned)a->x.rows;
    int threads = choose_threads(a->x.cols);
    if (a->lora_a)
        return overlap_launch(prepare<KIND, MODE, N_KEPT, true>, dim3(LORA_BLOCKS, rows), threads, 0, stream, *a);
    return overlap_launch(prepare<KIND, MODE, N_KEPT, false>, dim3(rows), threads, 0, stream, *a);
}

template <int KIND> static int launch_kind(const struct cuda_prepare *a, void *stream)
{
    int kept = (a->x.cols + MOST_THREADS * VECTOR - 1) / (MOST_THREADS * VECTOR);
    switch (choose_mode(a)) {
    case MODE_F32:
        return kept <= ONE_VECTOR    ? launch<KIND, MODE_F32, ONE_VECTOR>(a, stream)
               : kept <= FEW_VECTORS ? launch<KIND, MODE_F32, FEW_VECTORS>(a, stream)
                                     : launch<KIND, MODE_F32, MANY_VECTORS>(a, stream);
    case MODE_BF16:
        return kept <= ONE_VECTOR    ? launch<KIND, MODE_BF16, ONE_VECTOR>(a, stream)
               : kept <= FEW_VECTORS ? launch<KIND, MODE_BF16, FEW_VECTORS>(a, stream)
                                     : launch<KIND, MODE_BF16, MANY_VECTORS>(a, stream);
    case MODE_ANY:
        break;
    }
    return launch<KIND, MODE_ANY, FEW_VECTORS>(a, stream);
}

int cuda_prepare(const struct cuda_prepare *a, void *stream)
{
    if (a->x.rows <= 0 || a->x.cols <= 0)
        return 0;
    switch (a->kind) {
    case CUDA_INPUT_RMS:
        return launch_kind<CUDA_INPUT_RMS>(a, stream);
    case CUDA_INPUT_SILU_MUL:
        return launch_kind<CUDA_INPUT_SILU_MUL>(a, stream);
    case CUDA_INPUT_GELU:
        return launch_kind<CUDA_INPUT_GELU>(a, stream);
    case CUDA_INPUT_ROWS:
        break;
    }
    return launch_kind<CUDA_INPUT_ROWS>(a, stream);
}

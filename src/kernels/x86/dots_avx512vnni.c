// SPDX-License-Identifier: MIT
// Dot products of few rows with weights in blocks in AVX512-VNNI, at the speed of memory.
//
//   levels of 512 or 256 weights, those of a lane with one scale (dots_levels.h)    once for up to 8 rows of x
//   t[lane]    = sum of weight levels times x levels, an integer                    vpdpbusd
//   sum[lane] += scale[lane] * step[lane] * t[lane] - base[lane] * (sum of x in the lane)
//
// Against Q6_K and Q8_0 t begins with x's base, and weights have none.
//
// One row of x reads W from end to end. With several, 32 or 16 rows of W go through a stretch of x that stays in L1,
// before the next stretch; their sums wait in between. The order of the sum is the same for one row as for eight.
//
// What counts with eight rows is how many instructions multiply, since two of those start in a cycle (on Zen 4 one),
// while sums and conversions have units of their own. So a lane of 32 inputs has one step. Loads count nearly as much,
// one across two lines twice, so what both rows of W or both halves of a step need is read once. Stores and moves
// between lanes are not free either: on Zen 4 a store takes about half as long as a product, a move a quarter to a half.
//
// Easy to get wrong: a row's last step may lack blocks: they are read from a copy with zeros.
#include "kernels/x86/lanes_avx512.h"

#include "base/size.h"
#include "kernels/tiers.h"
#include "kernels/x86/dots_levels.h"
#include "kernels/x86/tiers_blocks.h"

enum {
    STRETCH = 1 << 13,       // inputs of all rows that stay in L1, beside what W brings
    GROUP = 32,              // outputs that share a stretch ...
    GROUP_BYTES = 160 << 10, // ... or half as many: L2 holds them, the next ones and x
    EACH = 16,               // of those whose sums are stored together
    VECTOR = 64,             // bytes
    // bytes of W asked for ahead of one row of x where L1 is too small:
    AHEAD_L2 = 12 << 10,  // into L2 ...
    AHEAD_NEAR = 2 << 10, // ... and so many of them into L1
    FAR = 32 << 10,       // a byte in each page (FAR_STEP inputs are less than one) farther ahead
    FAR_STEP = 1024,
    MAX_STEP = 16 * sizeof(struct block_q5_0), // of all types
};

// ---- x

// A step for each lane from the largest values' bits, and what to multiply with; in `none` all levels are 0.
static struct dots_steps {
    __m512 step, inverse;
    __mmask16 none;
} steps_of(__m512i top)
{
    __mmask16 bad = _mm512_cmpge_epu32_mask(top, _mm512_set1_epi32(0x7f800000));
    __mmask16 none = bad | _mm512_cmplt_epu32_mask(top, _mm512_set1_epi32(17 << 23));
    const __m512 size = _mm512_castsi512_ps(top), all = _mm512_set1_ps(DOTS_TOP);
    __m512 step = _mm512_maskz_div_ps((__mmask16)~none, size, all);
    return (struct dots_steps){_mm512_mask_mov_ps(step, bad, _mm512_set1_ps(NAN)),
                               _mm512_maskz_div_ps((__mmask16)~none, all, size), none};
}

// Sixteen inputs from `from` + 32 i on into lane dots_lane(i) of the vectors, zeros behind the k of x; returns the bits of
// the largest in each lane.
ALWAYS_INLINE __m512i load_lanes(__m512 v[DOTS_LANES], const float *x, size_t k, size_t from)
{
    const __m512i unsign = _mm512_set1_epi32(0x7fffffff);
    __m512i top = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (size_t i = 0; i < DOTS_LANES; i++) {
        size_t first = min_size(from + 32 * i, k);
        v[dots_lane(i)] = lanes_load_n(x + first, min_size(LANES, k - first));
    }
    lanes_transpose(v);
#pragma GCC unroll 16
    for (size_t i = 0; i < DOTS_LANES; i++)
        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(v[i]), unsign));
    return top;
}

ALWAYS_INLINE __m512i level(__m512 v, struct dots_steps s)
{
    return _mm512_cvtps_epi32(_mm512_maskz_mul_ps((__mmask16)~s.none, v, s.inverse));
}

// q's lowest byte as byte `at` of bytes.
ALWAYS_INLINE __m512i put_byte(__m512i bytes, __m512i q, unsigned at)
{
    q = _mm512_and_si512(q, _mm512_set1_epi32(0xff));
    return _mm512_or_si512(bytes, _mm512_slli_epi32(q, 8 * at));
}

// Sixteen inputs in each lane.
struct sixteens {
    __m512i level[4]; // as they are stored
    __m512i sum;      // of the levels
};

ALWAYS_INLINE struct sixteens sixteens_of(const __m512 v[DOTS_LANES], struct dots_steps s)
{
    struct sixteens a = {.sum = _mm512_setzero_si512()};
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
        a.level[j] = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            __m512i q = level(v[4 * j + i], s);
            a.sum = _mm512_add_epi32(a.sum, q);
            a.level[j] = put_byte(a.level[j], q, i);
        }
    }
    return a;
}

// A part and, in other lanes, its two halves.
static void prepare_part(struct dots_part *to, struct dots_half half[2], const float *x, size_t k,
                         size_t from)
{
    __m512 v[2][DOTS_LANES];
    __m512i top = load_lanes(v[0], x, k, from);
    const struct dots_steps s = steps_of(_mm512_max_epu32(top, load_lanes(v[1], x, k, from + 16)));
    const struct sixteens a = sixteens_of(v[0], s), c = sixteens_of(v[1], s);
    __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(a.sum, c.sum));
    for (size_t j = 0; j < 4; j++) {
        _mm512_store_si512(to->level + j * VECTOR, a.level[j]);
        _mm512_store_si512(to->level + (4 + j) * VECTOR, c.level[j]);
    }
    _mm512_store_ps(to->step, s.step);
    _mm512_store_ps(to->sum, _mm512_mul_ps(s.step, sum));
    // where the inputs of lane dots_lane_half(i) are: lane dots_lane(8 h + i / 2) of a or, i odd, c
    __m512i at = _mm512_setr_epi32(0, 8, 4, 12, 16, 24, 20, 28, 2, 10, 6, 14, 18, 26, 22, 30);
    for (size_t h = 0; h < 2; h++, at = _mm512_add_epi32(at, _mm512_set1_epi32(1))) {
        for (size_t j = 0; j < 4; j++)
            _mm512_store_si512(half[h].level + j * VECTOR,
                               _mm512_permutex2var_epi32(a.level[j], at, c.level[j]));
        __m512i all = _mm512_permutex2var_epi32(a.sum, at, c.sum);
        _mm512_store_ps(half[h].step, _mm512_permutex2var_ps(s.step, at, s.step));
        _mm512_store_si512(half[h].base,
                           _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(all, 7)));
    }
}

static void prepare(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                    size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k);
    for (size_t r = 0; r < m; r++, x += x_stride) {
        uint8_t *row = (uint8_t *)dst + r * bytes;
        struct dots_part *part = (struct dots_part *)(void *)row;
        struct dots_half *half = (struct dots_half *)(void *)(row + dots_halves_at(k));
        for (size_t i = 0; i < k; i += DOTS_PART, half += 2)
            prepare_part(part++, half, x, k, i);
        memset(half, 0, bytes - (size_t)((uint8_t *)half - row));
    }
}

// ---- products

// In assembly, since gcc 12 copies the accumulator of the intrinsic.
ALWAYS_INLINE __m512i dot_add(__m512i sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

// One or two rows of W times up to eight of x: with eight, sixteen sums that do not wait for each other.
struct products {
    __m512i d[2][KERNEL_FEW_ROWS]; // [row of W][row of x]
};

// Where up to eight rows of x are, in few registers: rows 0, 3 and 6, those between them a row or two behind.
struct rows {
    const uint8_t *at[3];
    size_t x_row;
};

ALWAYS_INLINE const uint8_t *row_at(const struct rows *x, int r)
{
    return x->at[r / 3] + (size_t)(r % 3) * x->x_row;
}

ALWAYS_INLINE const struct dots_half *half_of(const struct rows *x, int r)
{
    return (const struct dots_half *)(const void *)row_at(x, r);
}

_Static_assert(offsetof(struct dots_part, level) == 0 && offsetof(struct dots_half, level) == 0,
               "where dots_add finds levels");

// Adds a vector of levels of R rows of W times the one of M rows of x from byte `from` on.
ALWAYS_INLINE void dots_add(struct products *s, int M, int R, __m512i w0, __m512i w1,
                            const struct rows *x, size_t from)
{
#pragma GCC unroll 8
    for (int r = 0; r < M; r++) {
        const __m512i v = _mm512_load_si512(row_at(x, r) + from);
        s->d[0][r] = dot_add(s->d[0][r], w0, v);
        if (R > 1)
            s->d[1][r] = dot_add(s->d[1][r], w1, v);
    }
}

// The same of four vectors.
ALWAYS_INLINE void dots_add4(struct products *s, int M, int R, const struct dwords l[2],
                             const struct rows *x, size_t from)
{
    dots_add(s, M, R, l[0].v0, l[1].v0, x, from);
    dots_add(s, M, R, l[0].v1, l[1].v1, x, from + VECTOR);
    dots_add(s, M, R, l[0].v2, l[1].v2, x, from + 2 * VECTOR);
    dots_add(s, M, R, l[0].v3, l[1].v3, x, from + 3 * VECTOR);
}

ALWAYS_INLINE __m512 load_once(const float *p)
{
    return _mm512_castsi512_ps(once(_mm512_load_si512(p)));
}

// Of one row of x: sum[c] gains what the sums of products d[c] come to.
ALWAYS_INLINE void add_step(__m512 sum[2], enum dtype t, int R, const struct scales scale[2],
                            const __m512i d[2], const uint8_t *x)
{
    const struct dots_part *part = (const struct dots_part *)(const void *)x;
    const struct dots_half *half = (const struct dots_half *)(const void *)x;
    const __m512 x_step = load_once(dots_by_parts(t) ? part->step : half->step);
    const __m512 x_sum = dots_by_parts(t) ? load_once(part->sum) : x_step;
#pragma GCC unroll 2
    for (int c = 0; c < R; c++) {
        __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(d[c]), x_step);
        sum[c] = _mm512_fmadd_ps(scale[c].scale, f, sum[c]);
        if (dots_by_parts(t))
            sum[c] = _mm512_fnmadd_ps(scale[c].base, x_sum, sum[c]);
    }
}

// How many bytes of W are asked for into L1 ahead of one row of x, measured for each type (docs/SPEED_DECODING.md).
ALWAYS_INLINE size_t ahead_l1(enum dtype t)
{
    return t == DT_Q8_0 ? 7 << 10 : t == DT_Q5_K || t == DT_Q6_K ? 18 << 10 : 10 << 10;
}

// Asks for what lies at an address, perhaps behind W's end. The hardware's prefetchers start anew at every page, and
// hardly at all in a stretch of a row. No branches here: gcc 12 jumps over what only prefetches (look for it in a
// disassembly).
ALWAYS_INLINE void bring_l1(uintptr_t at, size_t bytes)
{
#pragma GCC unroll 16
    for (size_t line = 0; line < bytes; line += VECTOR)
        __builtin_prefetch((const void *)(at + line), 0, 3);
}

ALWAYS_INLINE void bring_l2(uintptr_t at, size_t bytes)
{
#pragma GCC unroll 16
    for (size_t line = 0; line < bytes; line += VECTOR)
        __builtin_prefetch((const void *)(at + line), 0, 2);
}

// The last n weights of a row, less than a step, with zeros behind them.
ALWAYS_INLINE void rest_of(uint8_t *to, enum dtype t, const uint8_t *w, size_t n)
{
    memset(to, 0, step_bytes(t));
    memcpy(to, w, n / (is_super(t) ? BLOCK_SUPER : BLOCK_SMALL) * block_bytes(t));
}

// n inputs of R (one or two) rows of W from w on, w_row bytes apart, and of M rows of x, x_row bytes apart.
struct piece {
    const uint8_t *w;
    size_t w_row;
    uintptr_t
        far; // what to bring to L2 meanwhile, as many bytes as this is; perhaps behind W's end
    const uint8_t *x;
    size_t x_row, n;
    bool first; // of the rows: sums begin here
};

// Sums of rows of x with a row of W, and behind KERNEL_FEW_ROWS with the next one: what is there and where it goes.
struct totals {
    const float (*from)[LANES];
    float (*to)[LANES];
    __m512 *held; // instead, of one row of each
};

ALWAYS_INLINE void levels_of_rows(struct dwords l[2], enum dtype t, int R,
                                  const uint8_t *const w[2], const struct k_bytes k[2], bool upper)
{
    l[0] = levels_of(t, w[0], &k[0], upper);
    l[1] = R > 1 ? levels_of(t, w[1], &k[1], upper) : l[0];
}

// Adds the products of a step.
ALWAYS_INLINE void step(const struct totals *sum, enum dtype t, int M, int R,
                        const uint8_t *const w[2], const struct rows *x)
{
    struct products s;
#pragma GCC unroll 8
    for (int r = 0; r < M; r++)
        s.d[0][r] = s.d[1][r] =
            dots_by_parts(t) ? _mm512_setzero_si512() : _mm512_load_si512(half_of(x, r)->base);
    struct k_bytes k[2];
    k[0] = k_bytes_of(t, w[0]), k[1] = R > 1 ? k_bytes_of(t, w[1]) : k[0];
    struct dwords l[2];
    levels_of_rows(l, t, R, w, k, false);
    dots_add4(&s, M, R, l, x, 0);
    struct scales scale[2]; // here, where their moves take no time and registers are left
    scale[0] = scales_of(t, w[0]), scale[1] = R > 1 ? scales_of(t, w[1]) : scale[0];
    if (dots_by_parts(t)) {
        levels_of_rows(l, t, R, w, k, true);
        dots_add4(&s, M, R, l, x, 4 * VECTOR);
    }
#pragma GCC unroll 8
    for (int r = 0; r < M; r++) {
        const __m512i d[2] = {s.d[0][r], s.d[1][r]};
        __m512 v[2];
#pragma GCC unroll 2
        for (int c = 0; c < R; c++)
            v[c] = sum->held ? *sum->held : _mm512_load_ps(sum->from[KERNEL_FEW_ROWS * c + r]);
        add_step(v, t, R, scale, d, row_at(x, r));
#pragma GCC unroll 2
        for (int c = 0; c < R; c++)
            if (sum->held)
                *sum->held = v[c];
            else
                _mm512_store_ps(sum->to[KERNEL_FEW_ROWS * c + r], v[c]);
    }
}

// sum[row of x] += the products of a piece, or = if it is the first; with R == 2 also sum[8 + row] of the next row of W.
ALWAYS_INLINE void dots(float (*sum)[LANES], enum dtype t, int M, int R, bool ask_l2,
                        const struct piece *p)
{
    static const _Alignas(64) float zero[2 * KERNEL_FEW_ROWS][LANES];
    const size_t bytes = step_bytes(t), inputs = step_inputs(t), x_row = p->x_row;
    const size_t x_step = dots_by_parts(t) ? sizeof(struct dots_part) : sizeof(struct dots_half);
    const size_t n_step = div_up(p->n, inputs), whole = p->n / inputs;
    uint8_t last[2][MAX_STEP];
    for (size_t r = 0; whole < n_step && r < (size_t)R; r++)
        rest_of(last[r], t, p->w + r * p->w_row + whole * bytes, p->n % inputs);
    const uint8_t *w[2] = {p->w, R > 1 ? p->w + p->w_row : p->w};
    uintptr_t near = (uintptr_t)p->w + 2 * p->w_row, far = p->far;
    struct rows x = {{p->x, M > 3 ? p->x + 3 * x_row : p->x, M > 6 ? p->x + 6 * x_row : p->x},
                     x_row};
    __m512 held = _mm512_setzero_ps();
    struct totals s = {p->first ? zero : (const float(*)[LANES])sum, sum, M == 1 ? &held : NULL};
    for (size_t i = 0; i < n_step; i++) {
        if (M == 1) { // one row reads W from end to end, in one piece
            bring_l1((uintptr_t)w[0] + (ask_l2 ? AHEAD_NEAR : ahead_l1(t)), bytes);
            if (ask_l2)
                bring_l2((uintptr_t)w[0] + AHEAD_L2, bytes);
            if (i % (FAR_STEP / inputs) == 0) // whose page nobody has looked up yet
                bring_l2((uintptr_t)w[0] + FAR, 1);
        }
        if (i == whole)
            w[0] = last[0], w[1] = last[R - 1];
        step(&s, t, M, R, w, &x);
        if (M > 1) { // what the next group needs, and the next rows of W
            bring_l2(far, (size_t)R * bytes);
            far += (size_t)R * bytes;
            bring_l1(near, bytes);
            bring_l1(near + p->w_row, bytes);
            near += bytes;
        }
        __asm__ volatile("" ::: "memory"); // or gcc stores each sum on the stack as well
        s.from = (const float(*)[LANES])sum;
        w[0] += bytes, w[1] += bytes;
        x.at[0] += x_step, x.at[1] += x_step, x.at[2] += x_step;
    }
    if (M == 1)
        _mm512_store_ps(sum[0], held);
}

// The sums of each of sixteen vectors' lanes, which lie `apart` floats apart. Each is that of _mm512_reduce_add_ps.
ALWAYS_INLINE __m512 sum_each(const float *at, size_t apart)
{
    __m512 v[EACH], s, t;
#pragma GCC unroll 8
    for (size_t c = 0; c < 8; c++) {
        __m512 x = _mm512_load_ps(at + c * apart), y = _mm512_load_ps(at + (c + 8) * apart);
        s = _mm512_shuffle_f32x4(x, y, 0x44), t = _mm512_shuffle_f32x4(x, y, 0xee);
        v[c] = _mm512_add_ps(s, t); // quarters: c, c, c + 8, c + 8
    }
#pragma GCC unroll 4
    for (size_t c = 0; c < 4; c++) {
        s = _mm512_shuffle_f32x4(v[c], v[c + 4], 0x88);
        t = _mm512_shuffle_f32x4(v[c], v[c + 4], 0xdd);
        v[c] = _mm512_add_ps(s, t); // quarters: c, c + 8, c + 4, c + 12
    }
#pragma GCC unroll 2
    for (size_t c = 0; c < 2; c++) {
        s = _mm512_shuffle_ps(v[c], v[c + 2], 0x44), t = _mm512_shuffle_ps(v[c], v[c + 2], 0xee);
        v[c] = _mm512_add_ps(s, t); // in a quarter: c, c, c + 2, c + 2
    }
    s = _mm512_shuffle_ps(v[0], v[1], 0x88), t = _mm512_shuffle_ps(v[0], v[1], 0xdd);
    const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
    return _mm512_permutexvar_ps(order, _mm512_add_ps(s, t));
}

// Outputs [o, o + n), n <= GROUP.
ALWAYS_INLINE void group(enum dtype t, int M, bool ask_l2, const struct product_job *j,
                         size_t x_row, size_t o, size_t n)
{
    _Alignas(64) float sum[GROUP][KERNEL_FEW_ROWS][LANES];
    const size_t row_bytes = dtype_span(t, j->w_stride);
    const size_t stretch = M > 1 ? STRETCH / (size_t)M / DOTS_PART * DOTS_PART : j->k;
    const int R = M > 1 ? 2 : 1;
    struct piece p = {.x_row = x_row};
    p.far = (uintptr_t)j->w + (o + n) * row_bytes; // the next group, in order
    const size_t none = j->k > 0 ? n : 0;          // from here on nothing is added
    memset(sum + none, 0, (round_up(n, EACH) - none) * sizeof sum[0]);
    for (size_t i = 0; i < j->k; i += stretch) {
        const uint8_t *x = j->x;
        p.w = (const uint8_t *)j->w + o * row_bytes + dtype_span(t, i);
        p.n = min_size(stretch, j->k - i);
        p.first = i == 0;
        const size_t bytes = dtype_span(t, p.n);
        p.x = dots_by_parts(t)
                  ? x + i / DOTS_PART * sizeof(struct dots_part)
                  : x + dots_halves_at(j->k) + i / DOTS_HALF * sizeof(struct dots_half);
        for (size_t c = 0; c < n; c += (size_t)R) {
            p.w_row = c + (size_t)R <= n ? row_bytes : 0; // an odd row is its own neighbour
            dots(sum[c], t, M, R, ask_l2, &p);
            p.w += (size_t)R * row_bytes;
            p.far += (size_t)R * bytes;
        }
    }
    for (size_t h = 0; h < n; h += EACH) {
        size_t part = min_size(n - h, EACH);
        const __m512 bias = j->bias ? lanes_load_n(j->bias + o + h, part) : _mm512_setzero_ps();
        for (size_t r = 0; r < (size_t)M; r++) {
            float *y = &j->y[r * j->y_stride + o + h];
            __m512 v = _mm512_add_ps(sum_each(sum[h][r], sizeof sum[0] / sizeof(float)), bias);
            lanes_store_n(y, j->add ? _mm512_add_ps(lanes_load_n(y, part), v) : v, part);
        }
    }
}

ALWAYS_INLINE void few_rows(const struct product_kernels *p, enum dtype t, int M, bool ask_l2,
                            const struct product_job *j)
{
    const size_t row_bytes = dtype_span(t, j->w_stride);
    const size_t rows = GROUP * row_bytes <= GROUP_BYTES ? GROUP : GROUP / 2;
    // what nobody has asked for yet
    for (size_t o = 0; M > 1 && o < min_size(rows, j->n); o++)
        bring_l2((uintptr_t)j->w + o * row_bytes, dtype_span(t, j->k));
    for (size_t o = 0; o < j->n; o += rows)
        group(t, M, ask_l2, j, product_x_stride(p, j->k), o, min_size(rows, j->n - o));
}

// A function for each type and number of rows: in one for all the compiler spills levels, and takes four times as long.
// Under a sanitizer one for all it is, of the same lines: to instrument 63 is a fifth of that build.
#ifndef IV_SANITIZED
#define FEW(type, M, name, ask_l2)                                                                 \
    static __attribute__((noinline)) void few_##type##_##name(const struct product_kernels *p,     \
                                                              const struct product_job *j)         \
    {                                                                                              \
        few_rows(p, DT_##type, M, ask_l2, j);                                                      \
    }
#define TYPE(type)                                                                                 \
    FEW(type, 1, 1, false)                                                                         \
    FEW(type, 1, 1_l2, true)                                                                       \
    FEW(type, 2, 2, false)                                                                         \
    FEW(type, 3, 3, false)                                                                         \
    FEW(type, 4, 4, false)                                                                         \
    FEW(type, 5, 5, false)                                                                         \
    FEW(type, 6, 6, false)                                                                         \
    FEW(type, 7, 7, false)                                                                         \
    FEW(type, 8, 8, false)                                                                         \
    static void few_##type(const struct product_kernels *p, const struct product_job *j)           \
    {                                                                                              \
        static void (*const of[KERNEL_FEW_ROWS])(const struct product_kernels *,                   \
                                                 const struct product_job *) = {                   \
            few_##type##_1, few_##type##_2, few_##type##_3, few_##type##_4,                        \
            few_##type##_5, few_##type##_6, few_##type##_7, few_##type##_8};                       \
        if (j->m == 1 && p->ask_l2)                                                                \
            few_##type##_1_l2(p, j);                                                               \
        else if (j->m > 0)                                                                         \
            of[j->m - 1](p, j);                                                                    \
    }
#else
#define TYPE(type)                                                                                 \
    static __attribute__((noinline)) void few_##type(const struct product_kernels *p,              \
                                                     const struct product_job *j)                  \
    {                                                                                              \
        if (j->m > 0)                                                                              \
            few_rows(p, DT_##type, (int)j->m, j->m == 1 && p->ask_l2, j);                          \
    }
#endif

TYPE(Q4_0)
TYPE(Q4_1)
TYPE(Q5_0)
TYPE(Q8_0)
TYPE(Q4_K)
TYPE(Q5_K)
TYPE(Q6_K)
#undef TYPE

static void few(const struct product_kernels *p, const struct product_job *j)
{
    switch (j->w_type) {
    case DT_Q4_0:
        few_Q4_0(p, j);
        break;
    case DT_Q4_1:
        few_Q4_1(p, j);
        break;
    case DT_Q5_0:
        few_Q5_0(p, j);
        break;
    case DT_Q8_0:
        few_Q8_0(p, j);
        break;
    case DT_Q4_K:
        few_Q4_K(p, j);
        break;
    case DT_Q5_K:
        few_Q5_K(p, j);
        break;
    default:
        few_Q6_K(p, j);
    }
}

void dots_set_avx512vnni(struct product_kernels *p)
{
    p->prepare = prepare;
    p->few = few;
    p->for_blocks = true;
}

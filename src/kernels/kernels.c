// SPDX-License-Identifier: MIT
// Fills the table of kernels: plain C first, then each tier that the processor has, weakest first, so
// that a tier only names what it does better than the one before.
#include "kernels/kernels.h"

#include "base/size.h"
#include "kernels/tiers.h"

enum {
    LINE = 64,          // bytes of a cache line
    L1_ROOM = 48 << 10, // bytes that hold a row of x and the weights that come next
    X_ROUND = 32,       // elements: prepared rows end on a multiple, so that readers need no tail
};

static void set_tiers(struct kernels *k, unsigned tiers)
{
    kernels_set_ref(k);
#if defined(IV_PLAIN_KERNELS)
    (void)tiers;
#elif defined(__x86_64__)
    if (!(tiers & 1u << CPU_AVX2))
        return;
    kernels_set_avx2(k);
    if (tiers & 1u << CPU_AVXVNNI)
        kernels_set_avxvnni(k); // wider tiers replace what it sets, as far as they have better
    if (!(tiers & 1u << CPU_AVX512))
        return;
    kernels_set_avx512(k);
    if (!(tiers & 1u << CPU_AVX512VNNI))
        return;
    kernels_set_avx512vnni(k);
    if (!(tiers & 1u << CPU_AVX512BF16))
        return;
    kernels_set_avx512bf16(k);
#ifdef HAVE_ONEDNN
    if (!(tiers & 1u << CPU_ONEDNN))
        return;
    kernels_set_onednn(k);
#endif
#elif defined(__aarch64__)
    if (!(tiers & 1u << CPU_NEON))
        return;
    kernels_set_neon(k);
    if (!(tiers & 1u << CPU_NEONDOTPROD))
        return;
    kernels_set_neondotprod(k);
    if (!(tiers & 1u << CPU_NEONBF16))
        return;
    kernels_set_neonbf16(k);
#else
    (void)tiers;
#endif
}

void kernels_init(struct kernels *k, unsigned tiers)
{
    size_t l1 = cpu_l1_bytes();
    set_tiers(k, tiers);
    k->bf16.ask_l2 = k->f32.ask_l2 = k->dots.ask_l2 = l1 > 0 && l1 < L1_ROOM;
}

void kernels_set_ref(struct kernels *k)
{
    *k = (struct kernels){.tier = CPU_REF};
    product_set_ref(&k->f32, false);
    product_set_ref(&k->bf16, true);
    int8_set_ref(&k->int8);
    dots_set_ref(&k->dots);
    rows_set_ref(k);
}

size_t product_x_stride(const struct product_kernels *p, size_t k)
{
    size_t bytes, scales = p->steps ? div_up(k, KERNEL_INT8_BLOCK) * sizeof(struct int8_step) : 0;
    size_t n = p->x_block ? div_up(k, p->x_block) : round_up(k, X_ROUND);
    if (!mul_size(n, p->x_elem, &bytes) || !add_size(bytes, scales, &bytes) ||
        bytes > SIZE_MAX - 2 * LINE)
        return SIZE_MAX;
    bytes = round_up(bytes, LINE);
    return bytes % (2 * LINE) == 0 ? bytes + LINE : bytes;
}

// SPDX-License-Identifier: MIT
// Owns the texts of --device and --gpu-weights. Easy to get wrong: it is part of every build, those without CUDA too, and
// "cuda:" without digits, or more than four, is refused, not read as 0.
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gpu/gpu.h"

int gpu_parse(const char *text, int *index, bool *must, struct err *e)
{
    *index = 0;
    *must = text && strcmp(text, "auto") != 0;
    if (!*must || !strcmp(text, "cuda"))
        return 0;
    if (!strcmp(text, "cpu")) {
        *index = GPU_NONE;
        return 0;
    }
    size_t digits = !strncmp(text, "cuda:", 5) ? strspn(text + 5, "0123456789") : 0;
    if (digits == 0 || digits > 4 || text[5 + digits] != 0)
        return err_set(e, ERR_USAGE, "device \"%s\": expected auto, cpu, cuda or cuda:N", text);
    *index = (int)strtol(text + 5, NULL, 10);
    return 0;
}

static const char *const weights_names[GPU_WEIGHTS_N] = {"plain", "q8_0", "q4_0", "q4_k_m", "q6_k"};

const char *gpu_weights_name(enum gpu_weights w)
{
    return weights_names[w];
}

bool gpu_weights_from_name(const char *name, enum gpu_weights *out)
{
    for (unsigned i = 0; i < GPU_WEIGHTS_N; i++)
        if (!strcasecmp(name, weights_names[i])) {
            *out = (enum gpu_weights)i;
            return true;
        }
    return false;
}

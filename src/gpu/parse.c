// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

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

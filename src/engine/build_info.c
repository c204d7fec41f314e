// SPDX-License-Identifier: MIT
// What `ivchat --version` prints: library, compiler, processor and the libraries it was built with.
#include <pthread.h>
#include <stdio.h>

#include "base/cpu.h"
#include "hub/http.h"
#include "ivchat.h"
#include "media/decode.h"

#ifdef __clang__
#define COMPILER "clang" // its __VERSION__ may name the distribution too
#else
#define COMPILER "gcc"
#endif

const char *iv_version(void)
{
    return IV_VERSION;
}

static char text[1024];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
    char tiers[256], media[256], http[128];
    cpu_tiers_text(cpu_detect(), tiers, sizeof tiers);
    decode_describe(media, sizeof media);
    http_describe(http, sizeof http);
    snprintf(text, sizeof text,
             "compiler: " COMPILER " %s\ncpu: %s\ndevices: cpu\nmedia: %s\nhub: %s\n", __VERSION__,
             tiers, media, http);
}

const char *iv_build_info(void)
{
    pthread_once(&once, fill); // the one text of the process, written before anyone reads it
    return text;
}

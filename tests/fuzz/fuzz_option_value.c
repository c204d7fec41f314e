// SPDX-License-Identifier: MIT
// Values of options. The first byte chooses an option; what is accepted lies in its range, and integers and grids that
// are written out are accepted again with the same result.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "option_value.h"
#include "require.h"
#include "settings.h"
#include "wellformed.h"

#define FIELD(f) offsetof(struct settings, f)

static const struct option option[] = {
    {.name = "threads", .type = OPTION_INT, .offset = FIELD(threads), .range = "[0,512]"},
    {.name = "cache-mib", .type = OPTION_COUNT, .offset = FIELD(cache_mib), .range = "[0,1000000]"},
    {.name = "seed",
     .type = OPTION_COUNT,
     .offset = FIELD(seed),
     .range = "[0,18446744073709551615]"},
    {.name = "top-p", .type = OPTION_REAL, .offset = FIELD(top_p), .range = "(0,1]"},
    {.name = "start", .type = OPTION_REAL, .offset = FIELD(start_s), .range = "[0,1e9]"},
    {.name = "save", .type = OPTION_TEXT, .offset = FIELD(save), .value = "FILE"},
    {.name = "msg", .type = OPTION_TEXT, .offset = FIELD(msg), .value = "TEXT", .range = "utf-8"},
    {.name = "dtype", .type = OPTION_CHOICE, .offset = FIELD(dtype), .range = "f32|bf16|int8"},
    {.name = "fix-ratio",
     .type = OPTION_GRID,
     .offset = FIELD(fix_ratio),
     .value = "WxH|auto",
     .range = "[1,64]"},
    {.name = "size",
     .type = OPTION_GRID,
     .offset = FIELD(size),
     .value = "WxH",
     .range = "[1,65536]"},
    {.name = "stop", .type = OPTION_LIST, .offset = FIELD(stop), .value = "TEXT", .range = "utf-8"},
};
enum { OPTIONS = sizeof option / sizeof *option, LONGEST = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool is_utf8(const char *text)
{
    return wellformed_length(text, strlen(text)) == strlen(text);
}

static void require_range(const struct option *o, const struct settings *s)
{
    if (o->offset == FIELD(threads))
        require(s->threads >= 0 && s->threads <= 512);
    else if (o->offset == FIELD(cache_mib))
        require(s->cache_mib <= 1000000);
    else if (o->offset == FIELD(top_p))
        require(s->top_p > 0 && s->top_p <= 1);
    else if (o->offset == FIELD(start_s))
        require(s->start_s >= 0 && s->start_s <= 1e9);
    else if (o->offset == FIELD(size))
        require(s->size.cols >= 1 && s->size.cols <= 65536 && s->size.rows >= 1 &&
                s->size.rows <= 65536);
    else if (o->offset == FIELD(fix_ratio))
        require(s->fix_ratio.cols >= 0 && s->fix_ratio.cols <= 64 && s->fix_ratio.rows >= 0 &&
                s->fix_ratio.rows <= 64 && !s->fix_ratio.cols == !s->fix_ratio.rows);
    else if (o->offset == FIELD(stop))
        require(s->stop.n == 1 && is_utf8(s->stop.item[0]));
    else if (o->offset == FIELD(msg))
        require(is_utf8(s->msg));
    else if (o->offset == FIELD(save))
        require(s->save[0] != 0);
    else if (o->offset == FIELD(dtype))
        require(!strcmp(s->dtype, "f32") || !strcmp(s->dtype, "bf16") || !strcmp(s->dtype, "int8"));
}

// Whether option_value_text writes what can be typed.
static bool is_typed(const struct option *o)
{
    return o->type == OPTION_INT || o->type == OPTION_COUNT || o->type == OPTION_GRID;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char message[OPTION_MESSAGE] = "", text[LONGEST], again[LONGEST];
    struct settings s = {0}, t = {0};
    if (n == 0)
        return 0;
    const struct option *o = &option[data[0] % OPTIONS];
    char *value = calloc(n, 1);
    if (!value)
        return 0;
    memcpy(value, data + 1, n - 1);
    const struct option_sink to = {.s = &s, .list_max = 1, .message = message};
    const struct option_sink second = {.s = &t, .list_max = 1, .message = message};
    if (option_value_set(&to, o, "--it", value) != 0) {
        require(message[0]);
    } else {
        require_range(o, &s);
        option_value_text(o, &s, text, sizeof text);
        if (is_typed(o)) {
            require(option_value_set(&second, o, "--it", text) == 0);
            option_value_text(o, &t, again, sizeof again);
            require(strcmp(text, again) == 0);
        }
    }
    heap_free(s.stop.item);
    free(value);
    return 0;
}

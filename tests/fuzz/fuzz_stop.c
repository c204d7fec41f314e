// SPDX-License-Identifier: MIT
// Stop texts in a stream cut anywhere. What is let through is the beginning of the text and holds no stop;
// it ends in front of a stop, or is all. Input: up to three stops, each ended by a zero byte, then pieces of
// the text separated by zero bytes.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chat/stop.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MAX_STOP = 3 };

static int holds_stop(const struct buf *b, const char *const *stop, size_t n_stop)
{
    for (size_t i = 0; i < n_stop && b->len > 0; i++)
        if (strstr(b->data, stop[i]))
            return 1;
    return 0;
}

static int begins_with_stop(const char *p, const char *const *stop, size_t n_stop)
{
    for (size_t i = 0; i < n_stop; i++)
        if (!strncmp(p, stop[i], strlen(stop[i])))
            return 1;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n > 2048)
        return 0;
    char *copy = malloc(n + 1);
    require(copy != NULL);
    memcpy(copy, data, n);
    copy[n] = 0;
    const char *stop[MAX_STOP], *at = copy, *end = copy + n;
    size_t n_stop = 0;
    for (; n_stop < MAX_STOP && memchr(at, 0, (size_t)(end - at)); n_stop++) {
        stop[n_stop] = at;
        at += strlen(at) + 1;
    }
    struct stop_match m;
    struct buf out = {0}, all = {0};
    struct err e;
    if (stop_init(&m, stop, n_stop, &e) == 0) {
        while (at < end && !m.hit) {
            size_t len = strlen(at);
            require(stop_push(&m, at, len, &out, &e) == 0);
            buf_add(&all, at, len);
            require(!holds_stop(&out, stop, n_stop));
            at += len + 1;
        }
        require(stop_finish(&m, &out, &e) == 0);
        require(out.len <= all.len && (out.len == 0 || !memcmp(out.data, all.data, out.len)));
        require(!holds_stop(&out, stop, n_stop));
        if (m.hit)
            require(begins_with_stop(all.data + out.len, stop, n_stop));
        else
            require(out.len == all.len);
    }
    stop_free(&m);
    buf_free(&out);
    buf_free(&all);
    free(copy);
    return 0;
}

// SPDX-License-Identifier: MIT
// The sections of a saved conversation, as a stranger may write them behind checksums that fit: decoded or
// refused; what is decoded is written again as the same bytes.
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "engine/saved.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile uint8_t sink;

static void touch(struct fields_text t)
{
    for (size_t i = 0; i < t.n; i++)
        sink ^= (uint8_t)t.p[i];
}

static void same(struct buf *b, const uint8_t *data, size_t n)
{
    require(!b->failed && b->len == n && memcmp(b->data, data, n) == 0);
    buf_free(b);
}

static int model(const uint8_t *data, size_t n, struct err *e)
{
    struct saved_model m;
    struct buf b = {0};
    int rc = saved_get_model(&m, data, n, "fuzz", e);
    if (rc != 0)
        return rc;
    touch(m.name);
    touch(m.tier);
    saved_put_model(&b, &m);
    same(&b, data, n);
    return 0;
}

static int talk(const uint8_t *data, size_t n, struct err *e)
{
    struct saved_talk t;
    struct buf b = {0}, again = {0};
    int rc = saved_get_talk(&t, data, n, "fuzz", e);
    if (rc != 0)
        return rc;
    touch(t.instruction);
    for (size_t i = 0; i < t.n_turn; i++)
        touch(t.turn[i].answer);
    saved_put_talk(&b, &t);
    saved_talk_free(&t);
    require(b.len == n); // options that are no numbers of ours are mended, once
    require(saved_get_talk(&t, b.data, n, "fuzz", e) == 0);
    saved_put_talk(&again, &t);
    saved_talk_free(&t);
    same(&again, (const uint8_t *)b.data, n);
    buf_free(&b);
    return 0;
}

static int media(const uint8_t *data, size_t n, struct err *e)
{
    struct saved_media m;
    struct buf b = {0}, again = {0};
    int rc = saved_get_media(&m, data, n, "fuzz", e);
    if (rc != 0)
        return rc;
    touch(m.path);
    for (size_t i = 0; i < m.n_part * m.clip_frames; i++)
        require(m.index[i] >= 0 && m.frame_s[i] >= 0);
    saved_put_media(&b, &m);
    saved_media_free(&m);
    require(b.len == n);
    require(saved_get_media(&m, b.data, n, "fuzz", e) == 0);
    saved_put_media(&again, &m);
    saved_media_free(&m);
    same(&again, (const uint8_t *)b.data, n);
    buf_free(&b);
    return 0;
}

// The first byte chooses the section.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    int rc;
    if (n == 0)
        return 0;
    switch (data[0]) {
    case 'm':
        rc = model(data + 1, n - 1, &e);
        break;
    case 't':
        rc = talk(data + 1, n - 1, &e);
        break;
    default:
        rc = media(data + 1, n - 1, &e);
    }
    require(rc == 0 || (rc == ERR_FAIL && e.code == rc && e.msg[0]));
    return 0;
}

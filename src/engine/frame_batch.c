// SPDX-License-Identifier: MIT
// Owns the gathered frames and a lane of scratch for each. Easy to get wrong: lanes share the pixels of `clips` but not
// its scratch, and a frame is in the pixels only after the flush.
#include "engine/frame_batch.h"

#include <string.h>

#include "base/clock.h"
#include "engine/status.h"
#include "base/mem.h"
#include "base/size.h"

static const size_t GATHER_BYTES = (size_t)64 << 20; // of frames and scratch

static size_t lane_bytes(const struct clips_plan *p)
{
    return p->frame_bytes + p->work_bytes;
}

static size_t lanes(const struct clips_plan *p, const struct pool *pool)
{
    size_t n = min_size(min_size(pool_threads(pool), FRAME_BATCH_MAX), p->n_frame);
    return min_size(n, GATHER_BYTES / max_size(lane_bytes(p), 1));
}

size_t frame_batch_bytes(const struct clips_plan *p, const struct pool *pool)
{
    size_t n = lanes(p, pool);
    return n < 2 ? p->work_bytes : n * lane_bytes(p);
}

int frame_batch_open(struct frame_batch *b, struct clips *clips, struct pool *pool, struct err *e)
{
    const struct clips_plan *p = &clips->plan;
    int rc = 0;
    memset(b, 0, sizeof *b);
    b->clips = clips;
    b->pool = pool;
    b->cap = lanes(p, pool);
    if (b->cap < 2)
        return 0;
    b->rgb = mem_alloc_big(b->cap * p->frame_bytes);
    if (!b->rgb)
        return err_set(e, ERR_LIMIT, "preprocessing: out of memory for %zu frames", b->cap);
    for (size_t i = 0; i < b->cap; i++) {
        TRY(clips_share(&b->lane[i], clips, e));
        b->n_lane++;
    }
    return 0;
fail:
    frame_batch_close(b);
    return rc;
}

void frame_batch_close(struct frame_batch *b)
{
    for (size_t i = 0; i < b->n_lane; i++)
        clips_done(&b->lane[i]);
    if (b->rgb)
        mem_free_big(b->rgb, b->cap * b->clips->plan.frame_bytes);
    memset(b, 0, sizeof *b);
}

static void put_task(void *ctx, size_t task, unsigned thread)
{
    struct frame_batch *b = ctx;
    (void)thread;
    clips_put(&b->lane[task], b->frame[task], b->rgb + task * b->clips->plan.frame_bytes);
}

void frame_batch_flush(struct frame_batch *b)
{
    double start = clock_ms();
    pool_run(b->pool, put_task, b, b->n);
    b->n = 0;
    b->ms += clock_ms() - start;
}

void frame_batch_put(struct frame_batch *b, size_t frame, const uint8_t *rgb)
{
    if (!rgb || b->cap < 2) { // NULL: the frame before it again
        frame_batch_flush(b);
        double start = clock_ms();
        clips_put(b->clips, frame, rgb);
        b->ms += clock_ms() - start;
        return;
    }
    memcpy(b->rgb + b->n * b->clips->plan.frame_bytes, rgb, b->clips->plan.frame_bytes);
    b->frame[b->n++] = frame;
    if (b->n == b->cap)
        frame_batch_flush(b);
}

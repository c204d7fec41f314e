// SPDX-License-Identifier: MIT
// Uniform sampling: seg = (n - 1) / s in double, index i = trunc(seg / 2) + rint(seg * i), SPEC 3.1.
// A window (--start, --end) only shifts the result: the rule runs over the frames of the window.
// The time sentence, SPEC 3.9, rounds like numpy: rint(x * 10) / 10, half to even on the product.
//
// Easy to get wrong: s counts frames, so the last frame is usually not sampled; rounding is half to
// even (149.5 -> 150, 0.45 s -> 0.4); 1.05 s is 1.0, not 1.1; "3.0" keeps its zero.
#include "media/frames.h"

#include <inttypes.h>
#include <math.h>

#include "base/buf.h"
#include "base/mem.h"

int frames_sample(size_t first, size_t n_frame, size_t n_segment, int32_t *index, struct err *e)
{
    if (n_segment == 0)
        return err_set(e, ERR_USAGE, "0 frames asked for; at least 1 is needed");
    if (n_segment > FRAMES_SEGMENT_MAX)
        return err_set(e, ERR_LIMIT, "%zu frames asked for, at most %d are accepted", n_segment,
                       FRAMES_SEGMENT_MAX);
    if (n_frame == 0)
        return err_set(e, ERR_MEDIA, "no frames to choose from");
    if (n_frame > INT32_MAX || first > INT32_MAX - n_frame)
        return err_set(e, ERR_LIMIT, "frames %zu..+%zu are beyond 2^31", first, n_frame);

    double seg = (double)(n_frame - 1) / (double)n_segment;
    int32_t start = (int32_t)first + (int32_t)(seg / 2);
    for (size_t i = 0; i < n_segment; i++)
        index[i] = start + (int32_t)rint(seg * (double)i); // rint: half to even
    return 0;
}

int frames_time_text(const int32_t *index, size_t n, double fps, char **text, struct err *e)
{
    struct buf b = {0};
    *text = NULL;
    if (!isfinite(fps) || fps <= 0)
        return 0;
    buf_printf(&b, "The video contains %zu frames sampled at ", n);
    for (size_t i = 0; i < n; i++) {
        double tenths = rint((double)index[i] / fps * 10);
        if (tenths > 9e17) { // would not fit the integer below; no real rate comes near
            buf_free(&b);
            return err_set(e, ERR_MEDIA, "%g frames per second: frame times overflow", fps);
        }
        int64_t t = (int64_t)tenths;
        buf_printf(&b, "%s%" PRId64 ".%d", i ? ", " : "", t / 10, (int)(t % 10));
    }
    buf_add_str(&b, " seconds.");
    *text = buf_take(&b);
    return *text ? 0 : err_set(e, ERR_LIMIT, "time sentence: out of memory");
}

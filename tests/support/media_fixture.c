// SPDX-License-Identifier: MIT
#include "media_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

const char *media_fixture(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/fixtures/media/%s", TEST_ROOT, name);
    return path;
}

void frames_free(struct frames *f)
{
    mem_free(f->rgb);
    memset(f, 0, sizeof *f);
}

const uint8_t *frames_at(const struct frames *f, size_t i)
{
    return f->rgb + i * f->frame_bytes;
}

struct video *open_fixture(const char *name, const struct video_options *o)
{
    static const struct video_options defaults;
    struct video *v;
    struct err e = {0};
    if (video_open(&v, media_fixture(name), o ? o : &defaults, &e) != 0)
        fail_msg("%s", e.msg);
    return v;
}

void read_video(struct frames *f, struct video *v, const int32_t *index, size_t n)
{
    const struct video_stats *s = video_stats(v);
    struct err e = {0};
    int32_t *all = NULL;
    if (!index) {
        n = s->n_frame;
        index = all = mem_calloc(n, sizeof *all);
        assert_non_null(all);
        for (size_t i = 0; i < n; i++)
            all[i] = (int32_t)i;
    }
    *f = (struct frames){.n = n, .width = s->width, .height = s->height};
    f->frame_bytes = f->width * f->height * 3;
    f->rgb = mem_calloc(n, f->frame_bytes);
    assert_non_null(f->rgb);
    if (video_read_rgb(v, index, n, f->rgb, &e) != 0)
        fail_msg("%s", e.msg);
    mem_free(all);
}

void read_fixture(struct frames *f, const char *name, const struct video_options *o)
{
    struct video *v = open_fixture(name, o);
    read_video(f, v, NULL, 0);
    video_close(v);
}

void sha256_of(const void *bytes, size_t n, char text[SHA256_TEXT])
{
    struct sha256 s = {0};
    uint8_t digest[SHA256_BYTES];
    assert_int_equal(sha256_begin(&s, NULL), 0);
    assert_int_equal(sha256_add(&s, bytes, n, NULL), 0);
    assert_int_equal(sha256_end(&s, digest, NULL), 0);
    sha256_text(digest, text);
}

// SPDX-License-Identifier: MIT
// Golden cases between a video file and the pixel tensor: frames, grids, resizing, whole media.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "cases.h"
#include "media/clips.h"
#include "media/video.h"
#include "media/frames.h"
#include "golden_rows.h"

static const float MEAN[3] = {0.485f, 0.456f, 0.406f}, STD[3] = {0.229f, 0.224f, 0.225f};

// The synthetic frames of the resize cases (formula in the case's note), as RGB [t, h, w, 3].
static uint8_t *synthetic(size_t w, size_t h, size_t n)
{
    uint8_t *rgb = malloc(n * h * w * 3);
    size_t i = 0;
    for (size_t t = 0; t < n; t++)
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++)
                for (size_t c = 0; c < 3; c++)
                    rgb[i++] =
                        (uint8_t)((x * 255 / (w > 1 ? w - 1 : 1) +
                                   (((3 * x * x + 5 * y * y + x * y + 61 * c + 17 * t) >> 3) &
                                    255)) >>
                                  1);
    return rgb;
}

// Value of the canvas [t, c, y, x] before normalisation, read back from the tiles.
static float canvas_at(const struct clips *c, size_t flat)
{
    size_t w = c->cols * CLIPS_SIZE, h = c->rows * CLIPS_SIZE;
    size_t x = flat % w, y = flat / w % h, ch = flat / w / h % 3, t = flat / w / h / 3;
    size_t clip = y / CLIPS_SIZE * c->cols + x / CLIPS_SIZE;
    size_t at = (((clip * c->n_frame + t) * 3 + ch) * CLIPS_SIZE + y % CLIPS_SIZE) * CLIPS_SIZE +
                x % CLIPS_SIZE;
    return (c->pixels[at] * STD[ch] + MEAN[ch]) * 255.0f;
}

static void compare_points(struct golden *g, const js_value *c, const char *name,
                           const struct clips *clips, bool canvas)
{
    char at_name[64], values_name[64];
    struct npy at, want;
    double max_abs;
    snprintf(at_name, sizeof at_name, "%s_at", name);
    snprintf(values_name, sizeof values_name, "%s_values", name);
    if (!golden_array(g, c, at_name, &at, NULL, NULL)) {
        report_result(g, golden_id(c), name, false, "the stored positions cannot be read");
        return;
    }
    if (!golden_array(g, c, values_name, &want, &max_abs, NULL)) {
        report_result(g, golden_id(c), name, false, "the stored values cannot be read");
    } else if (want.n != at.n) {
        report_result(g, golden_id(c), name, false, "%zu values at %zu positions", want.n, at.n);
        npy_free(&want);
    } else {
        float *got = malloc(want.n * sizeof *got);
        for (size_t i = 0; i < want.n; i++)
            got[i] = canvas ? canvas_at(clips, (size_t)at.i32[i]) : clips->pixels[at.i32[i]];
        report_distance(g, golden_id(c), name, golden_distance(got, want.f32, want.n), max_abs, -1);
        free(got);
        npy_free(&want);
    }
    npy_free(&at);
}

static void resize_case(struct golden *g, const js_value *c)
{
    static const struct {
        const char *name;
        enum clips_mode mode;
        int hd_num;
        bool padding;
        int cols, rows;
        bool canvas;
    } how[] = {
        {"no_padding", CLIPS_HD, 6, false, 2, 1, true},
        {"padding_4", CLIPS_HD, 4, true, 0, 0, true},
        {"padding_6", CLIPS_HD, 6, true, 0, 0, true},
        {"padding_12", CLIPS_HD, 12, true, 0, 0, true},
        {"free_ratio_4", CLIPS_HD, 4, false, 0, 0, true},
        {"free_ratio_6", CLIPS_HD, 6, false, 0, 0, true},
        {"free_ratio_12", CLIPS_HD, 12, false, 0, 0, true},
        {"media", CLIPS_HD, 6, false, 2, 1, false},
        {"plain_8b", CLIPS_PLAIN, 6, false, 2, 1, false},
    };
    size_t w = (size_t)golden_input_num(c, "width", 0),
           h = (size_t)golden_input_num(c, "height", 0);
    size_t n = (size_t)golden_input_num(c, "frames", 0);
    uint8_t *rgb = synthetic(w, h, n);
    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        struct clips_options o = clips_options_default();
        struct clips clips = {0};
        struct err e;
        o.mode = how[i].mode;
        o.hd_num = how[i].hd_num;
        o.padding = how[i].padding;
        o.fix_cols = how[i].cols;
        o.fix_rows = how[i].rows;
        if (clips_from_rgb(&clips, &o, rgb, n, w, h, &e) != 0)
            report_result(g, golden_id(c), how[i].name, false, "%s", e.msg);
        else
            compare_points(g, c, how[i].name, &clips, how[i].canvas);
        clips_free(&clips);
    }
    free(rgb);
}

static bool grid_row(void *user, const js_value *row, char *why, size_t cap)
{
    uint64_t w, h, hd, want[4];
    (void)user;
    js_u64(js_get(row, "width"), &w);
    js_u64(js_get(row, "height"), &h);
    js_u64(js_get(row, "hd_num"), &hd);
    for (size_t i = 0; i < 4; i++)
        js_u64(js_at(js_get(row, i < 2 ? "free" : "padding"), i % 2), &want[i]);
    struct clips_options o = clips_options_default();
    struct clips_plan p;
    struct err e;
    o.hd_num = (int)hd;
    o.fix_cols = o.fix_rows = 0;
    if (clips_plan(&p, &o, 1, w, h, &e) != 0 || p.cols != want[0] || p.rows != want[1]) {
        snprintf(why, cap, "%zux%zu hd_num %zu: grid %zux%zu", (size_t)w, (size_t)h, (size_t)hd,
                 p.cols, p.rows);
        return false;
    }
    o.padding = true;
    if (clips_plan(&p, &o, 1, w, h, &e) != 0 || p.canvas_width != want[2] ||
        p.canvas_height != want[3]) {
        snprintf(why, cap, "%zux%zu hd_num %zu: canvas %zux%zu", (size_t)w, (size_t)h, (size_t)hd,
                 p.canvas_width, p.canvas_height);
        return false;
    }
    return true;
}

static bool message_row(void *user, const js_value *row, char *why, size_t cap)
{
    uint64_t frames, segments;
    long num = 0, den = 1;
    char *text = NULL;
    struct err e;
    (void)user;
    js_u64(js_get(row, "frames"), &frames);
    js_u64(js_get(row, "segments"), &segments);
    sscanf(js_str(js_get(row, "fps"), NULL), "%ld/%ld", &num, &den);
    int32_t *index = calloc(segments, sizeof *index);
    bool same = frames_sample(0, frames, segments, index, &e) == 0 &&
                frames_time_text(index, segments, (double)num / (double)den, &text, &e) == 0 &&
                text && !strcmp(text, js_str(js_get(row, "message"), NULL));
    if (!same)
        snprintf(why, cap, "%s", text ? text : e.msg);
    free(text);
    free(index);
    return same;
}

static void index_case(struct golden *g, const js_value *c)
{
    struct js_doc doc;
    struct err e;
    char path[4400];
    size_t n_row = 0, n_bad = 0;
    golden_path(g, "cases/frames/index.json", path, sizeof path);
    if (js_load(&doc, path, 1 << 24, ERR_FAIL, &e) != 0) {
        report_result(g, golden_id(c), "rows", false, "%s", e.msg);
        return;
    }
    for (void *it = js_iter(doc.root); it; it = js_next(doc.root, it)) {
        size_t segments = (size_t)strtoul(js_iter_key(it, NULL), NULL, 10);
        const js_value *list = js_iter_value(it);
        int32_t *index = calloc(segments, sizeof *index);
        for (size_t n = 1; n <= js_size(list); n++, n_row++) {
            size_t n_want;
            int32_t *want = golden_ints(js_at(list, n - 1), &n_want);
            if (frames_sample(0, n, segments, index, &e) != 0 || n_want != segments ||
                memcmp(index, want, segments * sizeof *index) != 0)
                n_bad++;
            free(want);
        }
        free(index);
    }
    js_free(&doc);
    report_result(g, golden_id(c), "rows", n_bad == 0 && n_row > 0, "%zu of %zu rows equal",
                  n_row - n_bad, n_row);
}

static int read_frames(const char *path, size_t n, int32_t *index, uint8_t **rgb, struct video **v,
                       struct err *e)
{
    struct video_options o = {0};
    int rc = video_open(v, path, &o, e);
    if (rc == 0)
        rc = frames_sample(0, video_stats(*v)->n_frame, n, index, e);
    if (rc == 0) {
        *rgb = malloc(n * video_stats(*v)->width * video_stats(*v)->height * 3);
        rc = video_read_rgb(*v, index, n, *rgb, e);
    }
    return rc;
}

static int hash_bytes(const uint8_t *p, size_t n, char hex[SHA256_TEXT])
{
    struct sha256 s;
    uint8_t digest[SHA256_BYTES];
    struct err e;
    if (sha256_begin(&s, &e) != 0 || sha256_add(&s, p, n, &e) != 0 ||
        sha256_end(&s, digest, &e) != 0)
        return -1;
    sha256_text(digest, hex);
    return 0;
}

// A video of the reference data.
static void video_case(struct golden *g, const js_value *c)
{
    const char *id = golden_id(c);
    char path[4200];
    struct err e;
    struct video *v = NULL;
    struct npy want;
    double max_abs, cosine;
    snprintf(path, sizeof path, "%s/upstream/%s", g->data, golden_input(c, "video", "yoga.mp4"));
    size_t n = (size_t)golden_input_num(c, "segments", 8);
    struct clips_options o = clips_options_default();
    o.hd_num = (int)golden_input_num(c, "hd_num", 6);
    js_bool(js_get(js_get(c, "inputs"), "padding"), &o.padding);
    o.mode = strstr(id, "_8b") ? CLIPS_PLAIN : CLIPS_HD;
    int32_t *index = calloc(n, sizeof *index);
    uint8_t *rgb = NULL;
    struct clips clips = {0};
    if (read_frames(path, n, index, &rgb, &v, &e) != 0 ||
        clips_from_rgb(&clips, &o, rgb, n, video_stats(v)->width, video_stats(v)->height, &e) !=
            0) {
        report_result(g, id, "video", false, "%s", e.msg);
    } else if (!strcmp(id, "media/yoga_frames")) {
        const js_value *sha = golden_value(c, "sha256_per_frame");
        size_t bytes = video_stats(v)->width * video_stats(v)->height * 3, n_same = 0, n_index;
        int32_t *want_index = golden_ints(golden_value(c, "indices"), &n_index);
        char *text = NULL;
        report_ids(g, id, "indices", index, n, want_index, n_index);
        for (size_t i = 0; i < n; i++) {
            char hex[SHA256_TEXT];
            if (hash_bytes(rgb + i * bytes, bytes, hex) == 0 &&
                !strcmp(hex, js_str(js_at(sha, i), NULL)))
                n_same++;
        }
        report_result(g, id, "frames", n_same == n, "%zu of %zu frames have the same bytes", n_same,
                      n);
        frames_time_text(index, n, video_stats(v)->fps, &text, &e);
        report_text(g, id, "message", text, js_str(golden_value(c, "message"), NULL));
        free(text);
        free(want_index);
    } else if (golden_array(g, c, "pixels", &want, &max_abs, &cosine)) {
        if (want.n == clips.plan.pixel_floats)
            report_distance(g, id, "pixels", golden_distance(clips.pixels, want.f32, want.n),
                            max_abs, cosine);
        else
            report_result(g, id, "pixels", false, "%zu values, expected %zu",
                          clips.plan.pixel_floats, want.n);
        npy_free(&want);
    } else {
        compare_points(g, c, "pixels", &clips, false);
    }
    clips_free(&clips);
    free(rgb);
    free(index);
    video_close(v);
}

bool media_case(struct golden *g, const js_value *c)
{
    const char *id = golden_id(c);
    if (!strcmp(id, "resize/grids"))
        compare_rows(g, c, grid_row, NULL);
    else if (!strncmp(id, "resize/", 7))
        resize_case(g, c);
    else if (!strcmp(id, "frames/index"))
        index_case(g, c);
    else if (!strcmp(id, "frames/message"))
        compare_rows(g, c, message_row, NULL);
    else if (!strncmp(id, "media/", 6))
        video_case(g, c);
    else
        return false;
    return true;
}

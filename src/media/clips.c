// SPDX-License-Identifier: MIT
// RGB frame -> canvas f32 [3, 224 rows, 224 cols], values 0..255 -> (v/255 - mean)/std -> tiles in
// row-major order, then the bicubic global view of the normalised canvas as the last clip (SPEC 3.4 -
// 3.6). Plain mode: v/255, antialiased resize of the short side to 224, centre crop, normalise (3.8).
//
// Easy to get wrong: hd_num does nothing unless padding or the automatic grid is on; white is 255
// before normalisation; portrait padding turns the frame by 180 degrees (both axes, no transpose) and
// swaps only the numbers, which squashes it; new_h comes from a double division; crop offsets round
// half to even; nothing is clamped.
#include "media/clips.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"

static const float MEAN[3] = {0.485F, 0.456F, 0.406F}, STD[3] = {0.229F, 0.224F, 0.225F};
enum { TILE = CLIPS_SIZE, TILE_PIXELS = CLIPS_SIZE * CLIPS_SIZE };
static const float WHITE = 255;
static const size_t SIDE_MAX = (size_t)1 << 20;         // of a frame; far above the decoder's limit
static const size_t PIXEL_BYTES_MAX = (size_t)16 << 30; // of a tensor

struct clips_work {
    struct resize_axis x, y;               // frame -> canvas
    struct resize_axis global_x, global_y; // canvas -> global view
    float *canvas;                         // f32 [3, canvas_height, canvas_width]
    float *scratch;
    size_t canvas_bytes, scratch_bytes; // as planned
};

struct clips_options clips_options_default(void)
{
    return (struct clips_options){
        .mode = CLIPS_HD, .hd_num = 6, .fix_cols = 2, .fix_rows = 1, .antialias = true};
}

// ---- sizes

// The grid of at most hd_num tiles nearest in shape (SPEC 3.4, fix_ratio None). The reference walks
// the candidates by tile count; a later one of equal distance wins only if the picture has more than
// half of its pixels. Its order among grids of one tile count comes from a hash table, but cannot
// matter: between two such grids (i,j), (i',j') with i < i' lies (i,j'), which has fewer tiles and is
// nearer than both if they are equally far.
static void choose_grid(size_t hd_num, size_t width, size_t height, size_t *cols, size_t *rows)
{
    double ratio = (double)width / (double)height, best = INFINITY;
    double area = (double)width * (double)height;
    *cols = *rows = 1;
    for (size_t n = 1; n <= hd_num; n++) {
        for (size_t i = 1; i <= n; i++) {
            if (n % i != 0)
                continue;
            size_t j = n / i;
            double d = fabs(ratio - (double)i / (double)j);
            if (d < best || (d == best && area > 0.5 * TILE_PIXELS * (double)(i * j))) {
                best = d;
                *cols = i;
                *rows = j;
            }
        }
    }
}

static int plan_padding(struct clips_plan *p, struct err *e)
{
    p->turned = p->width < p->height;
    double wide = (double)(p->turned ? p->height : p->width);
    double ratio = wide / (double)(p->turned ? p->width : p->height);
    size_t scale = 1;
    while ((double)scale * ceil((double)scale / ratio) <= p->options.hd_num)
        scale++;
    // hd_num >= 1 and ratio >= 1, so the loop passed 1 at least
    scale--;
    p->resized_width = scale * TILE;
    p->resized_height = (size_t)((double)p->resized_width / ratio); // truncates
    if (p->resized_height == 0)
        return err_set(e, ERR_MEDIA,
                       "%zux%zu: too narrow for padding, no row is left of %zu columns", p->width,
                       p->height, p->resized_width);
    p->cols = scale;
    p->rows = div_up(p->resized_height, TILE);
    p->top = (p->rows * TILE - p->resized_height) / 2;
    return 0;
}

// torchvision's Resize(224) and CenterCrop(224)
static void plan_plain(struct clips_plan *p)
{
    size_t w = p->width, h = p->height;
    p->cols = p->rows = 1;
    p->resized_width = w <= h ? TILE : (size_t)((double)(TILE * w) / (double)h);
    p->resized_height = h <= w ? TILE : (size_t)((double)(TILE * h) / (double)w);
    p->crop_left = (size_t)rint((double)(p->resized_width - TILE) / 2);
    p->crop_top = (size_t)rint((double)(p->resized_height - TILE) / 2);
}

static int check_options(const struct clips_options *o, struct err *e)
{
    if (o->mode == CLIPS_PLAIN)
        return 0;
    bool automatic = o->fix_cols == 0 && o->fix_rows == 0;
    if ((o->padding || automatic) && (o->hd_num < 1 || o->hd_num > CLIPS_TILE_MAX))
        return err_set(e, ERR_USAGE, "hd_num %d: 1 to %d are accepted", o->hd_num, CLIPS_TILE_MAX);
    if (o->padding || automatic)
        return 0;
    if (o->fix_cols < 1 || o->fix_rows < 1 || o->fix_cols > CLIPS_TILE_MAX ||
        o->fix_rows > CLIPS_TILE_MAX || o->fix_cols * o->fix_rows > CLIPS_TILE_MAX)
        return err_set(e, ERR_USAGE, "grid %dx%d: 1 to %d tiles are accepted", o->fix_cols,
                       o->fix_rows, CLIPS_TILE_MAX);
    return 0;
}

static enum resize_kernel kernel_of(const struct clips_options *o)
{
    return o->mode == CLIPS_PLAIN && o->antialias ? RESIZE_CUBIC_AA : RESIZE_CUBIC;
}

// Rows and columns of the frame -> canvas axes that are computed.
static size_t canvas_cols(const struct clips_plan *p)
{
    return p->options.mode == CLIPS_PLAIN ? TILE : p->resized_width;
}

static size_t canvas_lines(const struct clips_plan *p)
{
    return p->options.mode == CLIPS_PLAIN ? TILE : p->resized_height;
}

// Scratch floats need the taps, which need memory; the count only needs n_tap and n_in.
static size_t scratch_floats(const struct clips_plan *p)
{
    enum resize_kernel k = kernel_of(&p->options);
    struct resize_axis x = {.n_in = p->width, .n_out = canvas_cols(p)};
    struct resize_axis y = {.n_tap = resize_taps(k, p->height, p->resized_height)};
    struct resize_axis gx = {.n_in = p->canvas_width, .n_out = TILE};
    struct resize_axis gy = {.n_tap = resize_taps(RESIZE_CUBIC, p->canvas_height, TILE)};
    return max_size(resize_scratch(&x, &y), resize_scratch(&gx, &gy));
}

static int plan_bytes(struct clips_plan *p, struct err *e)
{
    enum resize_kernel k = kernel_of(&p->options);
    size_t canvas, axes;
    bool fits = mul_size(p->width, p->height, &p->frame_bytes) &&
                mul_size(p->frame_bytes, 3, &p->frame_bytes) &&
                mul_size(p->n_clip, p->n_frame, &p->pixel_floats) &&
                mul_size(p->pixel_floats, (size_t)3 * TILE_PIXELS, &p->pixel_floats) &&
                mul_size(p->pixel_floats, sizeof(float), &p->pixel_bytes);
    if (!fits || p->pixel_bytes > PIXEL_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "%zu clips of %zu frames: pixels would pass %zu GiB",
                       p->n_clip, p->n_frame, PIXEL_BYTES_MAX >> 30);
    canvas = 3 * p->canvas_width * p->canvas_height;
    axes = resize_axis_bytes(k, p->width, p->resized_width, canvas_cols(p)) +
           resize_axis_bytes(k, p->height, p->resized_height, canvas_lines(p)) +
           resize_axis_bytes(RESIZE_CUBIC, p->canvas_width, TILE, TILE) +
           resize_axis_bytes(RESIZE_CUBIC, p->canvas_height, TILE, TILE);
    if (!mul_size(canvas, sizeof(float), &p->canvas_bytes) ||
        !mul_size(scratch_floats(p), sizeof(float), &p->scratch_bytes) ||
        !add_size(p->canvas_bytes, p->scratch_bytes, &p->work_bytes) ||
        !add_size(p->work_bytes, axes, &p->work_bytes))
        return err_set(e, ERR_LIMIT, "%zux%zu: size overflow", p->width, p->height);
    return 0;
}

int clips_plan(struct clips_plan *p, const struct clips_options *o, size_t n_frame, size_t width,
               size_t height, struct err *e)
{
    int rc;
    memset(p, 0, sizeof *p);
    *p = (struct clips_plan){.options = *o, .n_frame = n_frame, .width = width, .height = height};
    TRY(check_options(o, e));
    if (n_frame == 0) {
        rc = err_set(e, ERR_USAGE, "0 frames: at least 1 is needed");
        goto fail;
    }
    if (width == 0 || height == 0) {
        rc = err_set(e, ERR_MEDIA, "frame of %zux%zu pixels: nothing to see", width, height);
        goto fail;
    }
    if (width > SIDE_MAX || height > SIDE_MAX) {
        rc = err_set(e, ERR_LIMIT, "frame of %zux%zu pixels: at most %zu a side", width, height,
                     SIDE_MAX);
        goto fail;
    }
    if (o->mode == CLIPS_PLAIN) {
        plan_plain(p);
    } else if (o->padding) {
        TRY(plan_padding(p, e));
    } else {
        p->cols = (size_t)o->fix_cols;
        p->rows = (size_t)o->fix_rows;
        if (p->cols == 0)
            choose_grid((size_t)o->hd_num, width, height, &p->cols, &p->rows);
        p->resized_width = p->cols * TILE;
        p->resized_height = p->rows * TILE;
    }
    p->canvas_width = p->cols * TILE;
    p->canvas_height = p->rows * TILE;
    p->n_clip = o->mode == CLIPS_PLAIN ? 1 : p->cols * p->rows + 1;
    TRY(plan_bytes(p, e));
    return 0;
fail:
    memset(p, 0, sizeof *p);
    return rc;
}

// ---- work

static void work_free(struct clips_work *w)
{
    if (!w)
        return;
    resize_axis_free(&w->x);
    resize_axis_free(&w->y);
    resize_axis_free(&w->global_x);
    resize_axis_free(&w->global_y);
    mem_free_big(w->canvas, w->canvas_bytes);
    mem_free_big(w->scratch, w->scratch_bytes);
    mem_free(w);
}

static int work_make(struct clips_work **out, const struct clips_plan *p, struct err *e)
{
    int rc;
    enum resize_kernel k = kernel_of(&p->options);
    struct clips_work *w = *out = mem_calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_LIMIT, "preprocessing: out of memory");
    TRY(resize_axis_init(&w->x, k, p->width, p->resized_width, p->crop_left, canvas_cols(p), e));
    TRY(resize_axis_init(&w->y, k, p->height, p->resized_height, p->crop_top, canvas_lines(p), e));
    TRY(resize_axis_init(&w->global_x, RESIZE_CUBIC, p->canvas_width, TILE, 0, TILE, e));
    TRY(resize_axis_init(&w->global_y, RESIZE_CUBIC, p->canvas_height, TILE, 0, TILE, e));
    // big blocks: the heap would keep twice their size between the segments of a video
    w->canvas_bytes = p->canvas_bytes;
    w->scratch_bytes = p->scratch_bytes;
    w->canvas = mem_alloc_big(w->canvas_bytes);
    w->scratch = mem_alloc_big(w->scratch_bytes);
    if (!w->canvas || !w->scratch) {
        rc = err_set(e, ERR_LIMIT, "preprocessing: out of memory for %zu bytes", p->work_bytes);
        goto fail;
    }
    return 0;
fail:
    work_free(w);
    *out = NULL;
    return rc;
}

int clips_init(struct clips *c, const struct clips_plan *plan, struct err *e)
{
    int rc;
    memset(c, 0, sizeof *c);
    TRY(work_make(&c->work, plan, e));
    c->pixels = mem_alloc_big(plan->pixel_bytes);
    if (!c->pixels) {
        rc = err_set(e, ERR_LIMIT, "pixels: out of memory for %zu bytes", plan->pixel_bytes);
        goto fail;
    }
    c->plan = *plan;
    c->n_clip = plan->n_clip;
    c->n_frame = plan->n_frame;
    c->cols = plan->cols;
    c->rows = plan->rows;
    return 0;
fail:
    work_free(c->work);
    memset(c, 0, sizeof *c);
    return rc;
}

int clips_share(struct clips *lane, const struct clips *c, struct err *e)
{
    *lane = *c;
    return work_make(&lane->work, &c->plan, e);
}

void clips_done(struct clips *c)
{
    work_free(c->work);
    c->work = NULL;
}

void clips_free(struct clips *c)
{
    clips_done(c);
    mem_free_big(c->pixels, c->plan.pixel_bytes);
    memset(c, 0, sizeof *c);
}

static float *clip_frame(struct clips *c, size_t clip, size_t frame)
{
    return c->pixels + (clip * c->n_frame + frame) * 3 * TILE_PIXELS;
}

static void reverse(float *v, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        float t = v[i];
        v[i] = v[n - 1 - i];
        v[n - 1 - i] = t;
    }
}

// Frame -> canvas. Plain mode divides by 255 before the resize, HD after it.
static void fill_canvas(struct clips *c, const uint8_t *rgb)
{
    const struct clips_plan *p = &c->plan;
    struct clips_work *w = c->work;
    size_t plane = p->canvas_width * p->canvas_height;
    struct rgb_view view = {rgb, (ptrdiff_t)(3 * p->width), 3};
    float divide = p->options.mode == CLIPS_PLAIN ? 255.0F : 1.0F;
    if (p->turned)
        view = (struct rgb_view){rgb + p->frame_bytes - 3, -(ptrdiff_t)(3 * p->width), -3};
    if (p->resized_height < p->canvas_height && p->options.mode == CLIPS_HD) {
        for (size_t i = 0; i < 3 * plane; i++)
            w->canvas[i] = WHITE;
    }
    resize_rgb(&w->x, &w->y, view, divide, w->canvas + p->top * p->canvas_width, plane,
               p->canvas_width, w->scratch);
    for (size_t i = 0; p->turned && i < 3; i++)
        reverse(w->canvas + i * plane, plane);
}

static void normalise(struct clips *c)
{
    size_t plane = c->plan.canvas_width * c->plan.canvas_height; // whole tiles: a multiple of 32
    float divide = c->plan.options.mode == CLIPS_PLAIN ? 1.0F : 255.0F;
    for (size_t i = 0; i < 3; i++) {
        float *v = c->work->canvas + i * plane, mean = MEAN[i], std = STD[i];
        for (size_t at = 0; at < plane; at += 32) {
            for (size_t k = at; k < at + 32; k++)
                v[k] = (v[k] / divide - mean) / std;
        }
    }
}

static void cut_tile(struct clips *c, size_t clip, size_t frame)
{
    size_t stride = c->plan.canvas_width, plane = stride * c->plan.canvas_height;
    size_t r = clip / c->cols, col = clip % c->cols;
    const float *from = c->work->canvas + r * TILE * stride + col * TILE;
    float *to = clip_frame(c, clip, frame);
    for (size_t i = 0; i < 3; i++) {
        for (size_t y = 0; y < TILE; y++, to += TILE)
            memcpy(to, from + i * plane + y * stride, TILE * sizeof(float));
    }
}

void clips_put(struct clips *c, size_t frame, const uint8_t *rgb)
{
    size_t n_tile = c->cols * c->rows, stride = c->plan.canvas_width;
    if (!rgb) {
        for (size_t clip = 0; clip < c->n_clip; clip++)
            memcpy(clip_frame(c, clip, frame), clip_frame(c, clip, frame - 1),
                   (size_t)3 * TILE_PIXELS * sizeof(float));
        return;
    }
    fill_canvas(c, rgb);
    normalise(c);
    for (size_t clip = 0; clip < n_tile; clip++)
        cut_tile(c, clip, frame);
    if (c->n_clip > n_tile)
        resize_planes(&c->work->global_x, &c->work->global_y, c->work->canvas,
                      stride * c->plan.canvas_height, stride, clip_frame(c, n_tile, frame),
                      TILE_PIXELS, TILE, c->work->scratch);
}

int clips_from_rgb(struct clips *c, const struct clips_options *o, const uint8_t *rgb,
                   size_t n_frame, size_t width, size_t height, struct err *e)
{
    struct clips_plan p;
    memset(c, 0, sizeof *c);
    int rc = clips_plan(&p, o, n_frame, width, height, e);
    if (rc == 0)
        rc = clips_init(c, &p, e);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n_frame; i++)
        clips_put(c, i, rgb + i * p.frame_bytes);
    clips_done(c);
    return 0;
}

int clips_add_image(struct clips *c, const struct clips_options *o, const uint8_t *rgb,
                    size_t width, size_t height, struct err *e)
{
    struct clips one, sum;
    int rc = clips_from_rgb(&one, o, rgb, 1, width, height, e);
    if (rc != 0)
        return rc;
    sum = one;
    if (c->n_clip) {
        sum.n_clip += c->n_clip;
        if (!add_size(one.plan.pixel_bytes, c->plan.pixel_bytes, &sum.plan.pixel_bytes) ||
            sum.plan.pixel_bytes > PIXEL_BYTES_MAX) {
            rc = err_set(e, ERR_LIMIT, "%zu image clips: pixels would pass %zu GiB", sum.n_clip,
                         PIXEL_BYTES_MAX >> 30);
            goto fail;
        }
        sum.plan.pixel_floats += c->plan.pixel_floats;
        sum.plan.n_clip = sum.n_clip;
        sum.pixels = mem_alloc_big(sum.plan.pixel_bytes);
        if (!sum.pixels) {
            rc = err_set(e, ERR_LIMIT, "pixels: out of memory for %zu bytes", sum.plan.pixel_bytes);
            goto fail;
        }
        memcpy(sum.pixels, c->pixels, c->plan.pixel_bytes);
        memcpy(sum.pixels + c->plan.pixel_floats, one.pixels, one.plan.pixel_bytes);
        clips_free(c);
        clips_free(&one);
    }
    *c = sum;
    return 0;
fail:
    clips_free(&one);
    return rc;
}

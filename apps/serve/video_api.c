// SPDX-License-Identifier: MIT
// Uploads: POST, GET and DELETE /v1/videos, and the frames that the model will see of one.
//
// Easy to get wrong: the frames come from the same decoding and the same cache entry as the chat's, so that what a
// person sees is what the model saw; the body of an upload is dropped as soon as it lies in the store.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"
#include "modeljob.h"
#include "multipart.h"
#include "routes.h"
#include "work.h"

static void members(const struct stored *v, struct json_writer *w)
{
    jw_text(w, "id", v->id);
    jw_text(w, "object", "video");
    jw_count(w, "bytes", v->size);
    jw_int(w, "created_at", v->created);
    jw_text(w, "filename", v->name[0] ? v->name : NULL);
    jw_text(w, "sha256", v->sha256);
}

static int add(struct request *q, struct stored *out, struct refusal *r)
{
    struct multipart_file f = {.bytes = q->body, .n = q->n_body};
    const char *type = request_header(q, "Content-Type");
    if (multipart_type(type) && !multipart_read(&f, type, q->body, q->n_body))
        return refuse(r, 400, "invalid_multipart", "file",
                      "expected a form with a part called \"file\"");
    if (f.n == 0)
        return refuse(r, 400, "invalid_media", "file", "the upload is empty");
    int fd = item_memory();
    if (fd < 0 || !item_append(fd, f.bytes, f.n)) {
        if (fd >= 0)
            (void)close(fd);
        return refuse(r, 503, "out_of_memory", "", "out of memory");
    }
    uint64_t n = f.n;
    heap_free(q->body);
    q->body = NULL;
    struct item *i = item_make(fd, n, true, NULL, 0, request_gone, q);
    if (!i)
        return refuse(r, 503, "out_of_memory", "", "out of memory");
    bool kept = store_put(q->server->store, q->owner, i, NULL, f.name, out);
    item_drop(i);
    return kept ? 0
                : refuse(r, 413, "media_too_large", "file", "%llu bytes are more than is kept here",
                         (unsigned long long)n);
}

void video_add_handle(struct request *q, struct reply *p)
{
    struct refusal r;
    struct stored v;
    struct json_writer w;
    if (add(q, &v, &r) != 0) {
        reply_refusal(p, &r, q->server);
        return;
    }
    jw_begin(&w);
    members(&v, &w);
    reply_json(p, 200, &w);
}

void video_list_handle(struct request *q, struct reply *p)
{
    enum { MOST = 1000 };
    struct json_writer w;
    struct stored *v = heap_calloc(MOST, sizeof *v);
    size_t n = v ? store_list(q->server->store, q->owner, v, MOST) : 0;
    jw_begin(&w);
    jw_text(&w, "object", "list");
    jw_array(&w, "data");
    for (size_t i = 0; i < n; i++) {
        jw_object(&w, NULL);
        members(&v[i], &w);
        jw_end(&w);
    }
    jw_end(&w);
    heap_free(v);
    reply_json(p, 200, &w);
}

static void not_there(struct request *q, struct reply *p)
{
    struct refusal r;
    (void)refuse(&r, 404, "media_not_found", "id", "there is no upload of that id");
    reply_refusal(p, &r, q->server);
}

void video_get_handle(struct request *q, struct reply *p)
{
    struct stored v;
    struct json_writer w;
    struct item *i = store_get(q->server->store, q->owner, q->rest, strlen(q->rest), NULL, &v);
    if (!i) {
        not_there(q, p);
        return;
    }
    item_drop(i);
    jw_begin(&w);
    members(&v, &w);
    reply_json(p, 200, &w);
}

void video_remove_handle(struct request *q, struct reply *p)
{
    struct json_writer w;
    if (!store_remove(q->server->store, q->owner, q->rest)) {
        not_there(q, p);
        return;
    }
    jw_begin(&w);
    jw_text(&w, "id", q->rest);
    jw_text(&w, "object", "video.deleted");
    jw_flag(&w, "deleted", true);
    reply_json(p, 200, &w);
}

// ---- frames

// A BMP file of 24 bits a pixel: every browser shows it, and it needs no compressor.
static size_t bitmap(const uint8_t *rgb, size_t width, size_t height, uint8_t *out)
{
    size_t row = (3 * width + 3) / 4 * 4, n = 54 + row * height;
    memset(out, 0, n);
    const uint32_t numbers[][2] = {
        {2, (uint32_t)n},       {10, 54}, {14, 40}, {18, (uint32_t)width},
        {22, (uint32_t)height}, {26, 1},  {28, 24}, {34, (uint32_t)(row * height)}};
    out[0] = 'B';
    out[1] = 'M';
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        for (size_t k = 0; k < (numbers[i][0] == 26 ? 2 : 4); k++)
            out[numbers[i][0] + k] = (uint8_t)(numbers[i][1] >> 8 * k);
    }
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x++) { // from the bottom, blue first
            for (size_t k = 0; k < 3; k++)
                out[54 + (height - 1 - y) * row + 3 * x + k] = rgb[(y * width + x) * 3 + 2 - k];
        }
    }
    return n;
}

static bool picture(const struct media_view *v, size_t i, struct json_writer *w)
{
    static const char head[] = "data:image/bmp;base64,";
    size_t n = 54 + (3 * v->width + 3) / 4 * 4 * v->height;
    uint8_t *bmp = heap_calloc(n, 1);
    char *text = heap_calloc(sizeof head + 4 * ((n + 2) / 3) + 1, 1);
    bool ok = bmp && text;
    if (ok) {
        n = bitmap(v->thumb + i * v->width * v->height * 3, v->width, v->height, bmp);
        memcpy(text, head, sizeof head - 1);
        base64_encode(bmp, n, text + sizeof head - 1);
        jw_text(w, "image", text);
    }
    heap_free(bmp);
    heap_free(text);
    return ok;
}

static int frames_work(struct modeljob *m)
{
    struct media_entry *e;
    struct json_writer w;
    bool found, ok = true;
    if (modeljob_media(m, &e, &found) != 0)
        return -1;
    struct media_view v = mediacache_view(e);
    const struct iv_media_info *i = iv_media_info(v.media);
    jw_begin(&w);
    jw_object(&w, "video");
    work_media_members(v.media, NULL, &w);
    jw_real(&w, "duration", i->duration_s);
    jw_end(&w);
    jw_array(&w, "frames");
    for (size_t k = 0; k < v.n_thumb && ok; k++) {
        jw_object(&w, NULL);
        jw_int(&w, "index", k < i->n_frame ? i->frame_index[k] : 0);
        jw_ms(&w, "seconds", k < i->n_frame ? i->frame_s[k] : 0);
        ok = picture(&v, k, &w);
        jw_end(&w);
    }
    jw_end(&w);
    jw_count(&w, "width", v.width);
    jw_count(&w, "height", v.height);
    m->body = jw_take(&w);
    m->n_body = m->body ? strlen(m->body) : 0;
    mediacache_drop(e);
    return ok && m->body ? 0 : modeljob_failed(m, IV_ERR_LIMIT, NULL);
}

// What is no number is put as text, and refused by its type; the same for flags. JSON has no infinity.
static void put_number(const struct request *q, const char *key, struct json_writer *w)
{
    const char *text = request_query(q, key);
    char *end = NULL;
    double v = text ? strtod(text, &end) : 0;
    if (text && *text && !*end && isfinite(v))
        jw_real(w, key, v);
    else if (text)
        jw_text(w, key, text);
}

static void put_flag(const struct request *q, const char *key, struct json_writer *w)
{
    const char *text = request_query(q, key);
    if (text && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0))
        jw_flag(w, key, text[0] == 't');
    else if (text)
        jw_text(w, key, text);
}

// Preprocessing by query: num_frames, fps, start, end, hd_num, padding, fix_ratio, image.
static char *query_as_body(const struct request *q)
{
    static const char *const io[] = {"num_frames", "fps", "start", "end"};
    struct json_writer w;
    jw_begin(&w);
    jw_object(&w, "media_io_kwargs");
    jw_object(&w, "video");
    for (size_t i = 0; i < sizeof io / sizeof *io; i++)
        put_number(q, io[i], &w);
    jw_end(&w);
    jw_end(&w);
    jw_object(&w, "mm_processor_kwargs");
    put_number(q, "hd_num", &w);
    put_flag(q, "padding", &w);
    if (request_query(q, "fix_ratio"))
        jw_text(&w, "fix_ratio", request_query(q, "fix_ratio"));
    jw_end(&w);
    jw_object(&w, "input");
    const char *image = request_query(q, "image");
    jw_text(&w, "type",
            !image || strcmp(image, "false") == 0 ? "video"
            : strcmp(image, "true") == 0          ? "image"
                                                  : image); // the last is no type: refused
    char id[STORE_ID];
    size_t n = strcspn(q->rest, "/");
    (void)snprintf(id, sizeof id, "%.*s", (int)(n < STORE_ID ? n : 0), q->rest);
    jw_text(&w, "id", id);
    jw_end(&w);
    return jw_take(&w);
}

void video_frames_handle(struct request *q, struct reply *p)
{
    struct refusal r;
    struct chatreq c;
    struct sources from;
    char *body = query_as_body(q);
    if (!body) {
        reply_text(p, 503, NULL, NULL, 0);
        return;
    }
    int rc = chatreq_read_media(&c, body, strlen(body), &r);
    heap_free(body);
    struct modeljob *m = NULL;
    if (rc == 0 && sources_open(&from, q, &c, &r) == 0) {
        m = modeljob_new(q, &c, &from, frames_work, &r);
        if (!m)
            sources_drop(&from);
    }
    if (m) {
        modeljob_answer(m, q, p);
        return;
    }
    if (rc == 0)
        chatreq_free(&c);
    reply_refusal(p, &r, q->server);
}

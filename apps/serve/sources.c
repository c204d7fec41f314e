// SPDX-License-Identifier: MIT
// Opens the media of a request: decodes base64 into sealed memory, opens files below the media folder, fetches, looks
// up uploads.
//
// Easy to get wrong: the same video in several messages (clients send their history whole) is one video, but two
// different ones are not; a uuid with bytes names them from now on, one without means the bytes named before,
// of the same key holder only.

#include "sources.h"

#include <string.h>
#include <unistd.h>

#include "heap.h"
#include "mediafetch.h"
#include "urlguard.h"

enum { FETCH_S = 120 };

static int no_memory(struct refusal *r)
{
    return refuse(r, 503, "out_of_memory", "", "out of memory");
}

// Decodes text[at, end) and appends it to fd.
static int append_base64(int fd, const char *text, size_t n, const char *where, uint64_t *size,
                         struct refusal *r)
{
    uint8_t *bytes = heap_calloc(base64_room(n), 1);
    if (!bytes)
        return no_memory(r);
    ptrdiff_t len = base64_decode(text, n, bytes);
    int rc = 0;
    if (len <= 0)
        rc = refuse(r, 400, "invalid_base64", where, "%s: not base64", where);
    else if (!item_append(fd, bytes, (size_t)len))
        rc = no_memory(r);
    else
        *size += (uint64_t)len;
    heap_free(bytes);
    return rc;
}

static int open_data(const struct request *q, const struct mediaref *m, struct item **out,
                     struct refusal *r)
{
    struct item_piece *piece = NULL;
    size_t n_piece = 0;
    uint64_t size = 0;
    int fd = item_memory(), rc = fd < 0 ? no_memory(r) : 0;
    if (rc == 0 && m->from == MEDIAREF_FRAMES) {
        piece = heap_calloc(MEDIAREF_FRAMES_MAX, sizeof *piece);
        rc = piece ? 0 : no_memory(r);
    }
    for (size_t at = 0; rc == 0 && at < m->n;) {
        const char *comma = piece ? memchr(m->text + at, ',', m->n - at) : NULL;
        size_t len = comma ? (size_t)(comma - m->text) - at : m->n - at;
        uint64_t before = size;
        rc = append_base64(fd, m->text + at, len, m->where, &size, r);
        if (rc == 0 && piece)
            piece[n_piece++] = (struct item_piece){before, size - before};
        at += len + (comma != NULL);
        if (rc == 0 && comma && at == m->n)
            rc = refuse(r, 400, "invalid_base64", m->where, "%s: a comma at the end", m->where);
    }
    if (rc != 0) {
        heap_free(piece);
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    *out = item_make(fd, size, true, piece, n_piece, request_gone, (void *)(uintptr_t)q);
    return *out ? 0 : no_memory(r);
}

static int open_file(const struct request *q, const struct mediaref *m, struct item **out,
                     struct refusal *r)
{
    const struct server *s = q->server;
    int fd;
    uint64_t size;
    if (mediapath_file(&s->files, m->text, m->n, (uint64_t)1 << 40, m->where, &fd, &size, r) != 0)
        return -1;
    *out = item_make(fd, size, false, NULL, 0, request_gone, (void *)(uintptr_t)q);
    return *out ? 0
                : refuse(r, 415, "not_a_video", m->where, "%s: the file cannot be read", m->where);
}

// Somebody for whom media are fetched.
struct wish {
    const struct request *q;
    struct sources *s;
};

static bool wish_gone(void *user)
{
    const struct wish *w = user;
    return request_gone((void *)(uintptr_t)w->q);
}

// Fetched bytes lie in memory until the request is done, like those of bodies.
static bool wish_room(void *user, size_t n)
{
    struct wish *w = user;
    struct server *server = w->s->server;
    w->s->fetched += n;
    return atomic_fetch_add(&server->body_bytes, n) + n <= server->most_bytes;
}

static int open_remote(const struct request *q, struct sources *s, const struct mediaref *m,
                       struct item **out, struct refusal *r)
{
    struct wish w = {q, s};
    double timeout = q->server->s->timeout;
    const struct mediafetch f = {.allowed = q->server->s->allow_remote_media,
                                 .max = q->server->s->max_body,
                                 .seconds = timeout > 0 && timeout < FETCH_S ? timeout : FETCH_S,
                                 .acceptable = address_public,
                                 .stop = wish_gone,
                                 .room = wish_room,
                                 .user = &w};
    int fd;
    uint64_t size;
    if (mediafetch(&f, m->text, m->n, m->where, &fd, &size, r) != 0)
        return -1;
    *out = item_make(fd, size, true, NULL, 0, request_gone, (void *)(uintptr_t)q);
    return *out ? 0 : no_memory(r);
}

static int open_stored(const struct request *q, const struct mediaref *m, struct item **out,
                       struct refusal *r)
{
    bool by_id = m->n > 0;
    *out = store_get(q->server->store, q->owner, m->text, m->n, by_id ? NULL : m->uuid, NULL);
    return *out ? 0
                : refuse(r, 404, "media_not_found", m->where, "%s: no media of that %s", m->where,
                         by_id ? "id" : "uuid");
}

static int open_one(const struct request *q, struct sources *s, const struct mediaref *m,
                    struct item **out, struct refusal *r)
{
    int rc = -1;
    *out = NULL;
    switch (m->from) {
    case MEDIAREF_DATA:
    case MEDIAREF_FRAMES:
        rc = open_data(q, m, out, r);
        break;
    case MEDIAREF_FILE:
        rc = open_file(q, m, out, r);
        break;
    case MEDIAREF_REMOTE:
        rc = open_remote(q, s, m, out, r);
        break;
    case MEDIAREF_STORED:
        rc = open_stored(q, m, out, r);
        break;
    }
    if (rc == 0 && m->uuid && m->from != MEDIAREF_STORED &&
        !store_put(q->server->store, q->owner, *out, m->uuid, NULL, NULL)) {
        item_drop(*out);
        *out = NULL;
        rc = refuse(r, 413, "media_too_large", m->where, "%s: too large to be kept under a uuid",
                    m->where);
    }
    return rc;
}

// Keeps item i, unless it is the video that is there already.
static int keep(struct sources *s, struct item *i, const struct mediaref *m, struct refusal *r)
{
    if (!s->image && s->n == 1) {
        bool same = strcmp(i->sha256, s->item[0]->sha256) == 0 && i->n_piece == s->item[0]->n_piece;
        item_drop(i);
        return same ? 0
                    : refuse(r, 400, "invalid_media", m->where,
                             "%s: a conversation is about one video; this is a second one",
                             m->where);
    }
    s->item[s->n++] = i;
    return 0;
}

int sources_open(struct sources *s, const struct request *q, const struct chatreq *c,
                 struct refusal *r)
{
    *s = (struct sources){.image = c->n_media > 0 && c->media[0].image, .server = q->server};
    for (size_t i = 0; i < c->n_media; i++) {
        struct item *item;
        if (open_one(q, s, &c->media[i], &item, r) != 0 || keep(s, item, &c->media[i], r) != 0) {
            sources_drop(s);
            return -1;
        }
        if (c->media[i].from == MEDIAREF_FILE && !s->shown) {
            s->shown = heap_calloc(c->media[i].n + 1, 1);
            if (s->shown)
                memcpy(s->shown, c->media[i].text, c->media[i].n);
        }
    }
    return 0;
}

void sources_drop(struct sources *s)
{
    for (size_t i = 0; i < s->n; i++)
        item_drop(s->item[i]);
    heap_free(s->shown);
    if (s->fetched > 0)
        (void)atomic_fetch_sub(&s->server->body_bytes, s->fetched);
    *s = (struct sources){0};
}

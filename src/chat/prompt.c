// SPDX-License-Identifier: MIT
// Lays out template strings and the caller's texts as a list of spans, each known to be trusted or
// not; the list, cut at the markers, gives the pieces to tokenise (SPEC 6.2 - 6.4):
//
//   spans  -> piece P piece P ... piece  -> BOS ids, n_query visual positions, BOS ids, ...
//
// Easy to get wrong: every piece starts with BOS, also those between two clips. msg loses trailing
// white space in Python's sense (the Unicode kind, 1C - 1F included) and keeps leading. The first user
// turn of a conversation without media has no gap in front. An answer prefix is not part of history.
#include "chat/prompt.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "text/unicode.h"

// A marker is a span that points here; its bytes are only for prompt_conversation.
static const char image_mark[] = TEMPLATE_IMAGE_MARK;
static const char video_mark[] = TEMPLATE_VIDEO_MARK;

// Failure (memory) is sticky and tested once.
struct spans {
    struct text_span *v;
    size_t n, cap;
    bool failed;
};

struct prompt_text prompt_text_of(const char *s)
{
    return (struct prompt_text){.p = s, .n = s ? strlen(s) : 0};
}

static void add_span(struct spans *s, const char *p, size_t n, bool special)
{
    if (n == 0 || s->failed)
        return;
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap : 32;
        struct text_span *v = NULL;
        if (mul_size(cap, 2, &cap))
            v = mem_realloc(s->v, cap, sizeof *v);
        if (!v) {
            s->failed = true;
            return;
        }
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = (struct text_span){.p = p, .n = n, .special = special};
}

static void add_fixed(struct spans *s, const char *text)
{
    add_span(s, text, strlen(text), true);
}

static void add_text(struct spans *s, struct prompt_text t, bool special)
{
    add_span(s, t.p, t.n, special);
}

// What Python's str.isspace calls white space: bidirectional types WS, B, S and category Zs.
static bool is_python_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static struct prompt_text rstrip(struct prompt_text t)
{
    while (t.n > 0) {
        size_t at = t.n - 1;
        while (at > 0 && t.n - at < UTF8_MAX && ((unsigned char)t.p[at] & 0xc0) == 0x80)
            at--;
        uint32_t c;
        int n = utf8_decode(t.p + at, t.n - at, &c);
        if (n <= 0 || (size_t)n != t.n - at || !is_python_space(c))
            break;
        t.n = at;
    }
    return t;
}

static bool contains(struct prompt_text t, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; n <= t.n && i <= t.n - n; i++) {
        const char *p = memchr(t.p + i, what[0], t.n - n - i + 1);
        if (!p)
            return false;
        if (!memcmp(p, what, n))
            return true;
        i = (size_t)(p - t.p);
    }
    return false;
}

static int check_text(struct prompt_text t, const char *name, struct err *e)
{
    const char *mark = contains(t, image_mark) ? image_mark : video_mark;
    if (!contains(t, mark))
        return 0;
    return err_set(
        e, ERR_USAGE,
        "%s: holds the placeholder %s, which with allow_special would be a visual position", name,
        mark);
}

static int check_texts(const struct prompt_request *r, struct err *e)
{
    int rc;
    TRY(check_text(r->instruction, "instruction", e));
    TRY(check_text(r->msg, "msg", e));
    TRY(check_text(r->question, "question", e));
    TRY(check_text(r->answer_prefix, "answer_prefix", e));
    for (size_t i = 0; i < r->n_turn; i++) {
        TRY(check_text(r->turn[i].question, "question of the history", e));
        TRY(check_text(r->turn[i].answer, "answer of the history", e));
    }
    return 0;
fail:
    return rc;
}

static int check_request(const struct prompt_request *r, struct err *e)
{
    if (r->media == PROMPT_NO_MEDIA) {
        if (rstrip(r->msg).n > 0)
            return err_set(e, ERR_USAGE, "msg: is part of the media turn, but there is no media");
    } else {
        if (r->n_clip < 1 || r->n_clip > PROMPT_CLIP_MAX)
            return err_set(e, ERR_USAGE, "media: %zu clips, the limit is 1 to %d", r->n_clip,
                           PROMPT_CLIP_MAX);
        if (r->n_query < 1 || r->n_query > PROMPT_QUERY_MAX)
            return err_set(e, ERR_USAGE, "media: %zu visual rows a clip, the limit is 1 to %d",
                           r->n_query, PROMPT_QUERY_MAX);
        if (r->tmpl->one_marker && r->n_clip != 1)
            return err_set(e, ERR_USAGE, "media: %zu clips, but the template %s takes one",
                           r->n_clip, r->tmpl->name);
    }
    return r->allow_special ? check_texts(r, e) : 0;
}

static void lay_media(struct spans *s, const struct prompt_request *r)
{
    const struct chat_template *t = r->tmpl;
    bool image = r->media == PROMPT_IMAGE;
    add_fixed(s, t->media_open);
    for (size_t i = 0; i < r->n_clip; i++) {
        add_fixed(s, image ? t->image_open : t->video_open);
        add_fixed(s, image ? image_mark : video_mark);
        add_fixed(s, image ? t->image_close : t->video_close);
    }
    add_text(s, rstrip(r->msg), r->allow_special);
    add_fixed(s, t->media_close);
}

static void lay_question(struct spans *s, const struct prompt_request *r, struct prompt_text q,
                         bool first)
{
    const struct chat_template *t = r->tmpl;
    if (!first)
        add_fixed(s, t->turn_gap);
    add_fixed(s, t->user_open);
    add_text(s, q, r->allow_special);
    add_fixed(s, t->user_close);
    add_fixed(s, t->answer_open);
}

// The whole conversation in order; s is the caller's to mem_free on failure too.
static int lay_out(struct spans *s, const struct prompt_request *r, struct err *e)
{
    int rc;
    TRY(check_request(r, e));
    if (r->instruction.n > 0) {
        add_fixed(s, r->tmpl->instruction_open);
        add_text(s, r->instruction, r->allow_special);
        add_fixed(s, r->tmpl->instruction_close);
    }
    if (r->media != PROMPT_NO_MEDIA)
        lay_media(s, r);
    for (size_t i = 0; i < r->n_turn; i++) {
        lay_question(s, r, r->turn[i].question, r->media == PROMPT_NO_MEDIA && i == 0);
        add_text(s, r->turn[i].answer, r->allow_special || r->turn[i].answer_special);
        add_fixed(s, r->tmpl->answer_close);
    }
    lay_question(s, r, r->question, r->media == PROMPT_NO_MEDIA && r->n_turn == 0);
    add_text(s, r->answer_prefix, r->allow_special);
    if (s->failed)
        rc = err_set(e, ERR_LIMIT, "prompt: no memory for %zu spans", s->n);
fail:
    return rc;
}

static bool is_mark(const struct text_span *s)
{
    return s->p == image_mark || s->p == video_mark;
}

int prompt_build(struct prompt *p, const struct tokenizer *t, const struct prompt_request *r,
                 struct err *e)
{
    memset(p, 0, sizeof *p);
    p->ids.hooks = r->hooks;
    struct spans s = {0};
    int rc;
    TRY(lay_out(&s, r, e));
    size_t begin = 0;
    for (size_t i = 0; i <= s.n; i++) {
        if (i < s.n && !is_mark(&s.v[i]))
            continue;
        TRY(tokenizer_encode(t, s.v + begin, i - begin, &p->ids, e));
        begin = i + 1;
        for (size_t k = 0; i < s.n && k < r->n_query; k++, p->n_visual++)
            TRY(ids_add(&p->ids, PROMPT_VISUAL, e));
    }
    mem_free(s.v);
    return 0;
fail:
    mem_free(s.v);
    prompt_free(p);
    return rc;
}

void prompt_free(struct prompt *p)
{
    ids_free(&p->ids);
    memset(p, 0, sizeof *p);
}

int prompt_conversation(const struct prompt_request *r, struct buf *out, struct err *e)
{
    struct spans s = {0};
    int rc;
    TRY(lay_out(&s, r, e));
    for (size_t i = 0; i < s.n; i++)
        buf_add(out, s.v[i].p, s.v[i].n);
    if (out->failed)
        rc = err_set(e, ERR_LIMIT, "conversation: too long for a buffer of %zu bytes", out->len);
fail:
    mem_free(s.v);
    return rc;
}

size_t prompt_common_prefix(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n])
        n++;
    return n;
}

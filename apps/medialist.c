// SPDX-License-Identifier: MIT
// Lists of media; the lines are those of `caption`'s and of the examples' questions.jsonl.
#include "medialist.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"
#include "jsontext.h"
#include "linereader.h"
#include "savefile.h"

enum { LINE_BYTES = 1 << 20, ITEMS_MAX = 100000 };
static const char USUAL[] = "What does the video show?";

static const char *const PICTURE_ENDS[] = {".jpg", ".jpeg", ".png", ".bmp", ".webp"};

void media_list_free(struct media_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        heap_free(l->item[i].video);
        heap_free(l->item[i].image);
        heap_free(l->item[i].prompt);
        heap_free(l->item[i].instruction);
    }
    heap_free(l->item);
    memset(l, 0, sizeof *l);
}

static char *copy(const char *folder, size_t folder_n, const char *s, size_t n)
{
    char *out = heap_calloc(folder_n + n + 1, 1);
    if (out) {
        memcpy(out, folder, folder_n);
        memcpy(out + folder_n, s, n);
    }
    return out;
}

// A new item, all NULL; NULL = no memory.
static struct media_item *add(struct media_list *l)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct media_item *p = heap_realloc(l->item, cap, sizeof *p);
        if (!p)
            return NULL;
        l->item = p;
        l->cap = cap;
    }
    struct media_item *x = &l->item[l->n++];
    memset(x, 0, sizeof *x);
    return x;
}

struct source {
    struct media_list *list;
    const char *path;
    size_t folder_n; // bytes of path up to its last '/'
    const struct text_list *prompts;
    struct iv_error *e;
};

static int no_memory(struct source *s)
{
    return app_error(s->e, IV_ERR_LIMIT, "%s: out of memory", s->path);
}

// A path of the list as the program finds it.
static char *located(const struct source *s, const char *p, size_t n)
{
    return copy(s->path, n > 0 && p[0] == '/' ? 0 : s->folder_n, p, n);
}

static bool is_picture(const char *p, size_t n)
{
    for (size_t i = 0; i < sizeof PICTURE_ENDS / sizeof *PICTURE_ENDS; i++) {
        size_t m = strlen(PICTURE_ENDS[i]);
        if (n > m && memcmp(p + n - m, PICTURE_ENDS[i], m) == 0)
            return true;
    }
    return false;
}

static int add_path(struct source *s, const char *p, size_t n)
{
    size_t asked = s->prompts->n > 0 ? s->prompts->n : 1;
    for (size_t i = 0; i < asked; i++) {
        const char *q = s->prompts->n > 0 ? s->prompts->item[i] : USUAL;
        struct media_item *x = add(s->list);
        if (!x)
            return no_memory(s);
        char **to = is_picture(p, n) ? &x->image : &x->video;
        *to = located(s, p, n);
        x->prompt = copy("", 0, q, strlen(q));
        if (!*to || !x->prompt)
            return no_memory(s);
    }
    return IV_OK;
}

static const struct json_t *question_of(const struct json_t *line)
{
    const struct json_t *prompt = jt_member(line, "prompt");
    return prompt ? prompt : jt_member(jt_item(jt_member(line, "turns"), 0), "q");
}

static int add_object(struct source *s, size_t number, const struct json_t *v)
{
    static const char *const names[] = {"video", "image", "instruction"};
    const struct json_t *q = question_of(v);
    struct media_item *x = add(s->list);
    size_t n;
    if (!x)
        return no_memory(s);
    if (jt_kind_of(q) != JT_TEXT)
        return app_error(s->e, IV_ERR_USAGE, "%s: line %zu: no \"prompt\"", s->path, number);
    const char *text = jt_text(q, &n);
    x->prompt = copy("", 0, text, n);
    char **to[] = {&x->video, &x->image, &x->instruction};
    for (size_t i = 0; i < 3; i++) {
        const struct json_t *m = jt_member(v, names[i]);
        if (jt_kind_of(m) == JT_NONE)
            continue;
        if (jt_kind_of(m) != JT_TEXT)
            return app_error(s->e, IV_ERR_USAGE, "%s: line %zu: \"%s\" is no string", s->path,
                             number, names[i]);
        text = jt_text(m, &n);
        *to[i] = i < 2 ? located(s, text, n) : copy("", 0, text, n);
        if (!*to[i])
            return no_memory(s);
    }
    if (x->video && x->image)
        return app_error(s->e, IV_ERR_USAGE, "%s: line %zu: both \"video\" and \"image\"", s->path,
                         number);
    return x->prompt ? IV_OK : no_memory(s);
}

static int add_line(struct source *s, size_t number, const char *line, size_t n)
{
    static const struct jt_limits limits = {.values = 10000, .depth = 16};
    char why[160];
    if (n == 0 || line[0] == '#')
        return IV_OK;
    if (s->list->n >= ITEMS_MAX)
        return app_error(s->e, IV_ERR_LIMIT, "%s: more than %d questions", s->path, ITEMS_MAX);
    if (memchr(line, 0, n))
        return app_error(s->e, IV_ERR_USAGE, "%s: line %zu: a zero byte", s->path, number);
    if (line[0] != '{')
        return add_path(s, line, n);
    struct json_t *v = jt_read(line, n, &limits, why);
    if (!v)
        return app_error(s->e, IV_ERR_USAGE, "%s: line %zu: %s", s->path, number, why);
    int rc = add_object(s, number, v);
    jt_drop(v);
    return rc;
}

static int add_prompts(struct media_list *l, const struct text_list *prompts, struct iv_error *e)
{
    for (size_t i = 0; i < prompts->n; i++) {
        struct media_item *x = add(l);
        if (x)
            x->prompt = copy("", 0, prompts->item[i], strlen(prompts->item[i]));
        if (!x || !x->prompt)
            return app_error(e, IV_ERR_LIMIT, "out of memory for the prompts");
    }
    return IV_OK;
}

static int read_file(struct source *s, struct linereader *r)
{
    char *line;
    size_t n;
    enum linereader_result got;
    int rc = IV_OK;
    while (rc == IV_OK && (got = linereader_next(r, &line, &n)) == LINE_OK)
        rc = add_line(s, r->number, line, n);
    if (rc == IV_OK && got == LINE_FAILED)
        rc = app_error(s->e, IV_ERR_FAIL, "%s: line %zu: %s", s->path, r->number + 1,
                       strerror(errno));
    if (rc == IV_OK && got == LINE_STOPPED)
        rc = app_error(s->e, IV_ERR_ABORT, "stopped");
    if (rc == IV_OK && s->list->n == 0)
        rc = app_error(s->e, IV_ERR_USAGE, "%s: a list of nothing", s->path);
    return rc;
}

int media_list_read(struct media_list *l, const char *path, const struct text_list *prompts,
                    struct iv_error *e)
{
    memset(l, 0, sizeof *l);
    int rc;
    if (!path) {
        rc = add_prompts(l, prompts, e);
    } else {
        const char *slash = strrchr(path, '/');
        struct source s = {.list = l,
                           .path = path,
                           .folder_n = slash ? (size_t)(slash - path) + 1 : 0,
                           .prompts = prompts,
                           .e = e};
        struct linereader r = {.fd = open(path, O_RDONLY | O_CLOEXEC), .max = LINE_BYTES};
        if (r.fd < 0)
            return app_error(e, IV_ERR_FAIL, "%s: %s", path, strerror(errno));
        rc = read_file(&s, &r);
        linereader_free(&r);
        close(r.fd);
    }
    if (rc != IV_OK)
        media_list_free(l);
    return rc;
}

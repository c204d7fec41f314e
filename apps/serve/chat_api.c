// SPDX-License-Identifier: MIT
// POST /v1/chat/completions, /apply-template, /tokenize, /detokenize.
//
// Easy to get wrong: everything that can be refused without the model is refused before the request takes a place in the
// queue; llama.cpp's clients say "content" and expect no BOS, vLLM's say "prompt" and expect it.

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "chatanswer.h"
#include "heap.h"
#include "routes.h"

enum { IDS_MAX = 1 << 18 };

static void run(struct request *q, struct reply *p, int (*work)(struct modeljob *m))
{
    struct refusal r;
    struct chatreq c;
    struct sources from;
    if (chatreq_read(&c, q->body, q->n_body, &r) != 0) {
        reply_refusal(p, &r, q->server);
        return;
    }
    heap_free(q->body); // the texts have been copied; data URLs may make it large
    q->body = NULL;
    struct modeljob *m = NULL;
    if (work == chatanswer_template)
        c.stream = false;
    if (sources_open(&from, q, &c, &r) == 0) {
        m = modeljob_new(q, &c, &from, work, &r);
        if (!m)
            sources_drop(&from);
    }
    if (!m) {
        chatreq_free(&c);
        reply_refusal(p, &r, q->server);
        return;
    }
    modeljob_answer(m, q, p);
}

void chat_handle(struct request *q, struct reply *p)
{
    run(q, p, chatanswer_work);
}

void template_handle(struct request *q, struct reply *p)
{
    run(q, p, chatanswer_template);
}

// ---- tokens

static struct json_t *body_of(const struct request *q, struct refusal *r)
{
    static const struct jt_limits limits = {.values = IDS_MAX + 64, .depth = 8};
    char why[160];
    struct json_t *v = jt_read(q->body, q->n_body, &limits, why);
    if (!v) {
        (void)refuse(r, 400, "invalid_json", "", "the body is not JSON: %s", why);
    } else if (jt_kind_of(v) != JT_MAP) {
        (void)refuse(r, 400, "invalid_type", "", "the body must be a JSON object");
        jt_drop(v);
        v = NULL;
    }
    return v;
}

struct token_wish {
    enum iv_tokenizer kind;
    bool add_special, allow_special;
    const char *text;
    size_t n;
};

static int read_kind(const struct json_t *in, enum iv_tokenizer *kind, struct refusal *r)
{
    const char *name = "lm";
    if (field_text(in, "kind", 16, &name, r) != 0)
        return -1;
    if (strcmp(name, "lm") != 0 && strcmp(name, "bert") != 0)
        return refuse(r, 400, "invalid_value", "kind", "kind: expected lm or bert");
    *kind = name[0] == 'b' ? IV_TOKENIZER_BERT : IV_TOKENIZER_LM;
    return 0;
}

static int read_wish(const struct json_t *in, struct token_wish *wish, struct refusal *r)
{
    const struct json_t *content = jt_member(in, "content"), *prompt = jt_member(in, "prompt");
    const struct json_t *text = jt_kind_of(content) != JT_NONE ? content : prompt;
    if (jt_kind_of(text) != JT_TEXT ||
        (jt_kind_of(prompt) != JT_NONE && jt_kind_of(prompt) != JT_TEXT))
        return refuse(r, 400, "invalid_type", "content", "content: expected a string");
    wish->text = jt_text(text, &wish->n);
    if (wish->n > CHATREQ_TEXT_MAX) // ids take far more memory than their text
        return refuse(r, 400, "string_above_max_length", "content",
                      "content: %zu bytes, at most %d are accepted", wish->n, CHATREQ_TEXT_MAX);
    wish->add_special = text == prompt;
    if (read_kind(in, &wish->kind, r) != 0 ||
        field_flag(in, "add_special", &wish->add_special, r) != 0 ||
        field_flag(in, "add_special_tokens", &wish->add_special, r) != 0 ||
        field_flag(in, "parse_special", &wish->allow_special, r) != 0 ||
        field_flag(in, "allow_special", &wish->allow_special, r) != 0)
        return -1;
    return 0;
}

static int failed(const struct server *s, int rc, const struct iv_error *e, struct refusal *r)
{
    (void)s;
    if (rc == IV_ERR_USAGE)
        return refuse(r, 400, "invalid_value", "", "%s", e->message);
    if (rc == IV_ERR_LIMIT)
        return refuse(r, 413, "too_long", "", "%s", e->message);
    return refuse(r, 500, "internal_error", "", "the request failed");
}

// One at a time, in no order.
static int lock_tokens(struct request *q, struct refusal *r)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    const double timeout = q->server->s->timeout;
    const int64_t start = clock_now_ns();
    while (pthread_mutex_trylock(&q->server->tokens) != 0) {
        if (timeout > 0 && (double)(clock_now_ns() - start) > timeout * 1e9)
            return refuse(r, 503, "timeout", "", "the request took too long");
        if (atomic_load(&q->server->closing) || request_gone(q))
            return refuse(r, 503, "stopping", "", "the server is stopping");
        (void)nanosleep(&pause, NULL);
    }
    return 0;
}

static int tokenize(const struct server *s, const struct token_wish *wish, struct json_writer *w,
                    struct refusal *r)
{
    int32_t *ids;
    size_t n;
    struct iv_error e = {0};
    int rc =
        iv_tokenize(s->engine, wish->kind, wish->text, wish->n, wish->allow_special, &ids, &n, &e);
    if (rc != IV_OK)
        return failed(s, rc, &e, r);
    size_t from = !wish->add_special && n > 0, to = n;
    if (!wish->add_special && wish->kind == IV_TOKENIZER_BERT && to > from)
        to--; // [SEP]
    jw_begin(w);
    jw_array(w, "tokens");
    for (size_t i = from; i < to; i++)
        jw_int(w, NULL, ids[i]);
    jw_end(w);
    jw_count(w, "count", to - from);
    jw_count(w, "max_model_len", server_positions(s));
    iv_free(ids);
    return 0;
}

void tokenize_handle(struct request *q, struct reply *p)
{
    struct refusal r;
    struct token_wish wish = {0};
    struct json_writer w;
    struct json_t *in = body_of(q, &r);
    int rc = in ? read_wish(in, &wish, &r) : -1;
    if (rc == 0 && (rc = lock_tokens(q, &r)) == 0) {
        rc = tokenize(q->server, &wish, &w, &r);
        if (rc == 0)
            reply_json(p, 200, &w);
        (void)pthread_mutex_unlock(&q->server->tokens);
    }
    if (rc != 0)
        reply_refusal(p, &r, q->server);
    jt_drop(in);
}

static int read_ids(const struct json_t *in, int32_t **ids, size_t *n, struct refusal *r)
{
    const struct json_t *list = jt_member(in, "tokens");
    if (jt_kind_of(list) != JT_LIST || jt_count(list) > IDS_MAX)
        return refuse(r, 400, "invalid_type", "tokens", "tokens: expected a list of at most %d ids",
                      IDS_MAX);
    *n = jt_count(list);
    *ids = heap_calloc(*n + 1, sizeof **ids);
    if (!*ids)
        return refuse(r, 503, "out_of_memory", "", "out of memory");
    for (size_t i = 0; i < *n; i++) {
        const struct json_t *v = jt_item(list, i);
        if (jt_kind_of(v) != JT_INT || jt_int(v) < 0 || jt_int(v) > INT32_MAX)
            return refuse(r, 400, "invalid_value", "tokens", "tokens: element %zu is no token id",
                          i);
        (*ids)[i] = (int32_t)jt_int(v);
    }
    return 0;
}

static int detokenize(const struct server *s, enum iv_tokenizer kind, const int32_t *ids, size_t n,
                      struct json_writer *w, struct refusal *r)
{
    char *text;
    size_t len;
    struct iv_error e = {0};
    uint64_t n_vocab = iv_engine_info(s->engine)->llm_n_vocab;
    for (size_t i = 0; i < n && kind == IV_TOKENIZER_LM; i++) {
        if ((uint64_t)ids[i] >= n_vocab)
            return refuse(r, 400, "invalid_value", "tokens",
                          "tokens: id %d is not below %llu, the size of the vocabulary", ids[i],
                          (unsigned long long)n_vocab);
    }
    int rc = iv_detokenize(s->engine, kind, ids, n, &text, &len, &e);
    if (rc != IV_OK)
        return refuse(r, 400, "invalid_value", "tokens", "%s", e.message);
    jw_begin(w);
    jw_text_n(w, "content", text, len);
    jw_text_n(w, "prompt", text, len);
    iv_free(text);
    return 0;
}

void detokenize_handle(struct request *q, struct reply *p)
{
    struct refusal r;
    struct json_writer w;
    enum iv_tokenizer kind = IV_TOKENIZER_LM;
    int32_t *ids = NULL;
    size_t n = 0;
    struct json_t *in = body_of(q, &r);
    int rc = in ? read_kind(in, &kind, &r) : -1;
    if (rc == 0)
        rc = read_ids(in, &ids, &n, &r);
    if (rc == 0)
        rc = detokenize(q->server, kind, ids, n, &w, &r);
    if (rc == 0)
        reply_json(p, 200, &w);
    else
        reply_refusal(p, &r, q->server);
    heap_free(ids);
    jt_drop(in);
}

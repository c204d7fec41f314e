// SPDX-License-Identifier: MIT
// From the JSON of a chat to turns, media and numbers.
//
//   roles: system and developer texts go in front of the next user text; user texts without an answer in between are
//   one turn; the last message is the user's
//
// Easy to get wrong: every number has a range and a type; a U+0000 cannot pass through C strings; what is not
// supported is refused when it would change the answer; the model sees its media in front of the whole conversation,
// in whichever message they stand.

#include "chatreq.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "heap.h"
#include "textbuf.h"

#define CHECK(call)                                                                                \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            return -1;                                                                             \
    } while (0)

static int no_memory(struct refusal *r)
{
    return refuse(r, 503, "out_of_memory", "", "out of memory");
}

// ---- messages

struct gather {
    struct chatreq *q;
    struct textbuf user; // text of the turn that is being read
    bool open;           // a user message has come
    size_t n_byte;       // of all texts
    struct refusal *r;
};

static int add_media(struct gather *g, const struct json_t *part, const char *where)
{
    struct chatreq *q = g->q;
    if (q->n_media == CHATREQ_MEDIA_MAX)
        return refuse(g->r, 400, "too_many_media", where, "%s: more than %d media in one request",
                      where, CHATREQ_MEDIA_MAX);
    if (!q->media)
        q->media = heap_calloc(CHATREQ_MEDIA_MAX, sizeof *q->media);
    if (!q->media)
        return no_memory(g->r);
    CHECK(mediaref_read(&q->media[q->n_media], part, where, g->r));
    q->n_media++;
    return 0;
}

static int add_text(struct gather *g, struct textbuf *to, const struct json_t *v, bool first,
                    const char *where)
{
    size_t n;
    const char *text = jt_text(v, &n);
    if (jt_kind_of(v) != JT_TEXT)
        return refuse(g->r, 400, "invalid_type", where, "%s: expected text", where);
    if (n > CHATREQ_TEXTS_MAX - g->n_byte)
        return refuse(g->r, 400, "string_above_max_length", "messages",
                      "messages: more than %d bytes of text in all", CHATREQ_TEXTS_MAX);
    g->n_byte += n;
    if (!first)
        textbuf_add(to, "\n", 1);
    textbuf_add(to, text, n);
    if (to->failed)
        return refuse(g->r, 400, "string_above_max_length", where, "%s: more than %d bytes of text",
                      where, CHATREQ_TEXT_MAX);
    return 0;
}

static int add_part(struct gather *g, struct textbuf *to, const struct json_t *part, bool media,
                    bool *first, const char *where)
{
    const char *type = jt_text(jt_member(part, "type"), NULL);
    bool image;
    if (jt_kind_of(part) != JT_MAP)
        return refuse(g->r, 400, "invalid_type", where, "%s: expected an object", where);
    if (strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0 ||
        strcmp(type, "output_text") == 0) {
        CHECK(add_text(g, to, jt_member(part, "text"), *first, where));
        *first = false;
        return 0;
    }
    if (!mediaref_type(type, &image))
        return refuse(g->r, 400, "invalid_value", where,
                      "%s: no part of type \"%.40s\" is known here", where, type);
    if (!media)
        return refuse(g->r, 400, "invalid_value", where, "%s: media stand in user messages", where);
    return add_media(g, part, where);
}

// A message's content into to.
static int add_content(struct gather *g, struct textbuf *to, const struct json_t *v, bool media,
                       size_t i)
{
    char where[48];
    bool first = true;
    (void)snprintf(where, sizeof where, "messages[%zu].content", i);
    if (jt_kind_of(v) == JT_NONE && !media)
        return 0; // an assistant's message may lack it
    if (jt_kind_of(v) == JT_TEXT)
        return add_text(g, to, v, true, where);
    if (jt_kind_of(v) != JT_LIST)
        return refuse(g->r, 400, "invalid_type", where, "%s: expected text or a list of parts",
                      where);
    for (size_t k = 0; k < jt_count(v); k++) {
        (void)snprintf(where, sizeof where, "messages[%zu].content[%zu]", i, k);
        CHECK(add_part(g, to, jt_item(v, k), media, &first, where));
    }
    return 0;
}

// Ends the user's turn with an answer, or NULL.
static int end_turn(struct gather *g, char *answer)
{
    struct chatreq *q = g->q;
    char *question = textbuf_take(&g->user, NULL);
    if (!question) {
        heap_free(answer);
        return no_memory(g->r);
    }
    q->turn[q->n_turn++] = (struct chatreq_turn){question, answer};
    g->open = false;
    return 0;
}

static int read_message(struct gather *g, const struct json_t *m, size_t i)
{
    const char *role = jt_text(jt_member(m, "role"), NULL);
    const struct json_t *content = jt_member(m, "content");
    char where[32];
    (void)snprintf(where, sizeof where, "messages[%zu]", i);
    if (jt_kind_of(m) != JT_MAP)
        return refuse(g->r, 400, "invalid_type", where, "%s: expected an object", where);
    if (strcmp(role, "user") == 0 || strcmp(role, "system") == 0 ||
        strcmp(role, "developer") == 0) {
        if (g->user.len > 0)
            textbuf_str(&g->user, "\n\n");
        if (role[0] == 'u')
            g->open = true;
        return add_content(g, &g->user, content, role[0] == 'u', i);
    }
    if (strcmp(role, "assistant") != 0)
        return refuse(g->r, 400, "invalid_value", where,
                      "%s.role: expected system, developer, user or assistant", where);
    CHECK(field_unsupported(m, "tool_calls", g->r));
    if (!g->open)
        return refuse(g->r, 400, "invalid_value", where,
                      "%s: an answer needs a question in front of it", where);
    struct textbuf text = {.max = CHATREQ_TEXT_MAX};
    int rc = add_content(g, &text, content, false, i);
    char *answer = rc == 0 ? textbuf_take(&text, NULL) : NULL;
    textbuf_free(&text);
    if (rc != 0)
        return rc;
    return answer ? end_turn(g, answer) : no_memory(g->r);
}

static int read_messages(struct chatreq *q, const struct json_t *list, bool question,
                         struct refusal *r)
{
    struct gather g = {.q = q, .user = {.max = CHATREQ_TEXT_MAX}, .r = r};
    size_t n = jt_count(list);
    int rc = 0;
    if (jt_kind_of(list) != JT_LIST || n == 0)
        return refuse(r, 400, "missing_required_parameter", "messages",
                      "messages: expected a list of at least one message");
    if (n > CHATREQ_TURNS_MAX)
        return refuse(r, 400, "invalid_value", "messages", "messages: %zu, at most %d are accepted",
                      n, CHATREQ_TURNS_MAX);
    q->turn = heap_calloc(n, sizeof *q->turn);
    if (!q->turn)
        return no_memory(r);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = read_message(&g, jt_item(list, i), i);
    if (rc == 0 && question && !g.open)
        rc = refuse(r, 400, "invalid_value", "messages",
                    "messages: the last one must be the user's; answer_prefix begins an answer");
    if (rc == 0 && g.open)
        rc = end_turn(&g, NULL);
    textbuf_free(&g.user);
    return rc;
}

// ---- numbers

static int read_grid(struct chatreq *q, const struct json_t *v, struct refusal *r)
{
    const char *s = jt_text(v, NULL);
    int cols = 0, rows = 0, used = 0;
    if (jt_kind_of(v) == JT_NONE)
        return 0;
    q->fix_ratio = true;
    if (strcmp(s, "auto") == 0)
        return 0;
    if (jt_kind_of(v) == JT_LIST && jt_count(v) == 2) {
        cols = (int)(jt_kind_of(jt_item(v, 0)) == JT_INT ? jt_int(jt_item(v, 0)) & 127 : 0);
        rows = (int)(jt_kind_of(jt_item(v, 1)) == JT_INT ? jt_int(jt_item(v, 1)) & 127 : 0);
        if (cols != jt_int(jt_item(v, 0)) || rows != jt_int(jt_item(v, 1)))
            cols = 0;
    } else if (strlen(s) <= 5 && s[0] >= '1' && s[0] <= '9') {
        if (sscanf(s, "%2dx%2d%n", &cols, &rows, &used) != 2 || s[used])
            cols = 0;
    }
    if (cols < 1 || rows < 1 || cols * rows > 64)
        return refuse(r, 400, "invalid_value", "fix_ratio",
                      "fix_ratio: expected \"WxH\" of at most 64 tiles, or \"auto\"");
    q->fix_cols = cols;
    q->fix_rows = rows;
    return 0;
}

int chatreq_processing(struct chatreq *q, const struct json_t *in, struct refusal *r)
{
    const struct json_t *io, *video, *mm;
    CHECK(field_map(in, "media_io_kwargs", &io, r));
    CHECK(field_map(io, "video", &video, r));
    CHECK(field_map(in, "mm_processor_kwargs", &mm, r));
    CHECK(field_int(video, "num_frames", 1, 512, &q->n_frame, r));
    CHECK(field_real(video, "fps", 0.001, 1000, &q->rate, r));
    CHECK(field_real(video, "start", 0, 1e9, &q->start_s, r));
    CHECK(field_real(video, "end", 0, 1e9, &q->end_s, r));
    CHECK(field_int(mm, "hd_num", 1, 64, &q->hd_num, r));
    CHECK(field_flag(mm, "padding", &q->padding, r));
    CHECK(read_grid(q, jt_member(mm, "fix_ratio"), r));
    if (q->padding && q->fix_ratio)
        return refuse(r, 400, "invalid_value", "fix_ratio",
                      "padding and fix_ratio exclude each other");
    if (q->end_s > 0 && q->end_s <= q->start_s)
        return refuse(r, 400, "invalid_value", "end", "end: %g s is not after start, %g s",
                      q->end_s, q->start_s);
    return 0;
}

static int read_seed(struct chatreq *q, const struct json_t *in, struct refusal *r)
{
    const struct json_t *v = jt_member(in, "seed");
    double real = jt_kind_of(v) == JT_REAL ? jt_number(v) : 0;
    if (jt_kind_of(v) == JT_NONE)
        return 0;
    if ((jt_kind_of(v) != JT_INT && jt_kind_of(v) != JT_REAL) || real != rint(real) ||
        fabs(real) > 9007199254740992.0) // 2^53: from there on not every number is there
        return refuse(r, 400, "invalid_type", "seed", "seed: expected a whole number");
    q->seed = (uint64_t)(jt_kind_of(v) == JT_INT ? jt_int(v) : (int64_t)real);
    q->seed_given = true;
    return 0;
}

static int add_stop(struct chatreq *q, const struct json_t *v, struct refusal *r)
{
    size_t n;
    const char *s = jt_text(v, &n);
    if (jt_kind_of(v) != JT_TEXT || n == 0 || n > CHATREQ_STOP_BYTES)
        return refuse(r, 400, "invalid_value", "stop", "stop: expected texts of 1 to %d bytes",
                      CHATREQ_STOP_BYTES);
    q->stop[q->n_stop++] = s;
    return 0;
}

static int read_stop(struct chatreq *q, const struct json_t *in, struct refusal *r)
{
    const struct json_t *v = jt_member(in, "stop");
    if (jt_kind_of(v) == JT_NONE)
        return 0;
    if (jt_kind_of(v) == JT_LIST && jt_count(v) > CHATREQ_STOPS_MAX)
        return refuse(r, 400, "invalid_value", "stop", "stop: %zu texts, at most %d are accepted",
                      jt_count(v), CHATREQ_STOPS_MAX);
    q->stop = heap_calloc(CHATREQ_STOPS_MAX, sizeof *q->stop);
    if (!q->stop)
        return no_memory(r);
    if (jt_kind_of(v) != JT_LIST)
        return add_stop(q, v, r);
    for (size_t i = 0; i < jt_count(v); i++)
        CHECK(add_stop(q, jt_item(v, i), r));
    return 0;
}

static int read_logprobs(struct chatreq *q, const struct json_t *in, struct refusal *r)
{
    bool wanted = false;
    int top = -1;
    CHECK(field_flag(in, "logprobs", &wanted, r));
    CHECK(field_int(in, "top_logprobs", 0, CHATREQ_TOP_MAX, &top, r));
    if (top > 0 && !wanted)
        return refuse(r, 400, "invalid_value", "top_logprobs", "top_logprobs needs logprobs");
    q->n_logprob = wanted ? (top > 0 ? top : 0) : -1;
    if (wanted && q->num_beams > 1)
        return refuse(r, 400, "invalid_value", "logprobs",
                      "logprobs and num_beams exclude each "
                      "other");
    return 0;
}

static int read_refused(const struct json_t *in, struct refusal *r)
{
    static const char *const keys[] = {
        "tools",       "functions",        "tool_choice",       "function_call",
        "logit_bias",  "presence_penalty", "frequency_penalty", "audio",
        "guided_json", "guided_regex",     "guided_choice",     "web_search_options"};
    static const char *const other[] = {
        // that other servers understand
        "min_p",    "use_beam_search", "stop_token_ids",  "bad_words",
        "mirostat", "dry_multiplier",  "xtc_probability", "allowed_token_ids",
        "grammar",  "guided_grammar",  "json_schema",     "structured_outputs"};
    static const char *const ones[] = {"typical_p", "repeat_penalty", "best_of"}; // 1 = nothing
    const char *format = jt_text(jt_member(jt_member(in, "response_format"), "type"), NULL);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(jt_text(jt_member(in, keys[i]), NULL), "auto") != 0)
            CHECK(field_unsupported(in, keys[i], r));
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        CHECK(field_unsupported(in, other[i], r));
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
        if (jt_number(jt_member(in, ones[i])) != 1)
            CHECK(field_unsupported(in, ones[i], r));
    }
    if (*format && strcmp(format, "text") != 0)
        return refuse(r, 400, "unsupported_parameter", "response_format",
                      "response_format: this server answers in text only");
    return 0;
}

static int read_generation(struct chatreq *q, const struct json_t *in, struct refusal *r)
{
    const struct json_t *options;
    CHECK(field_int(in, "max_tokens", 1, 1000000, &q->max_tokens, r));
    CHECK(field_int(in, "max_completion_tokens", 1, 1000000, &q->max_tokens, r));
    CHECK(field_real(in, "temperature", 0, 100, &q->temperature, r));
    CHECK(field_real(in, "top_p", 1e-9, 1, &q->top_p, r));
    CHECK(field_int(in, "top_k", 0, 1000000, &q->top_k, r));
    CHECK(field_int(in, "n", 1, CHATREQ_CHOICES_MAX, &q->n_choice, r));
    CHECK(field_int(in, "num_beams", 1, 64, &q->num_beams, r));
    CHECK(field_int(in, "min_length", 0, 1000000, &q->min_length, r));
    CHECK(field_int(in, "min_tokens", 0, 1000000, &q->min_length, r));
    CHECK(field_real(in, "repetition_penalty", 0.001, 10, &q->repetition_penalty, r));
    CHECK(field_real(in, "length_penalty", -10, 10, &q->length_penalty, r));
    CHECK(field_flag(in, "ignore_eos", &q->ignore_eos, r));
    CHECK(field_flag(in, "stream", &q->stream, r));
    CHECK(field_map(in, "stream_options", &options, r));
    CHECK(field_flag(options, "include_usage", &q->include_usage, r));
    CHECK(read_seed(q, in, r));
    CHECK(read_stop(q, in, r));
    CHECK(read_logprobs(q, in, r));
    return read_refused(in, r);
}

static int read_texts(struct chatreq *q, const struct json_t *in, struct refusal *r)
{
    CHECK(field_text(in, "instruction", CHATREQ_TEXT_MAX, &q->instruction, r));
    CHECK(field_text(in, "msg", CHATREQ_TEXT_MAX, &q->msg, r));
    CHECK(field_text(in, "answer_prefix", CHATREQ_TEXT_MAX, &q->answer_prefix, r));
    CHECK(field_flag(in, "time_text", &q->time_text, r));
    if (q->msg && q->time_text)
        return refuse(r, 400, "invalid_value", "time_text", "msg and time_text exclude each other");
    return 0;
}

static int open_body(struct chatreq *q, const char *text, size_t n, struct refusal *r)
{
    static const struct jt_limits limits = {.values = 1 << 18, .depth = 64};
    char why[160];
    const char *model = NULL;
    *q = (struct chatreq){.num_beams = 1,
                          .min_length = 1,
                          .n_choice = 1,
                          .top_p = 0.9,
                          .repetition_penalty = 1,
                          .length_penalty = 1,
                          .n_logprob = -1};
    q->json = jt_read(text, n, &limits, why);
    if (!q->json)
        return refuse(r, 400, "invalid_json", "", "the body is not JSON: %s", why);
    if (jt_kind_of(q->json) != JT_MAP)
        return refuse(r, 400, "invalid_type", "", "the body must be a JSON object");
    // one model is served, whatever it is called; the reply names it
    CHECK(field_text(q->json, "model", 1024, &model, r));
    CHECK(read_texts(q, q->json, r));
    return chatreq_processing(q, q->json, r);
}

// One video, or images.
static int check_media(const struct chatreq *q, struct refusal *r)
{
    size_t n_image = 0;
    for (size_t i = 0; i < q->n_media; i++)
        n_image += q->media[i].image;
    if (n_image > 0 && n_image < q->n_media)
        return refuse(r, 400, "invalid_media", q->media[0].where,
                      "a conversation is about one video or about images, not both");
    return 0;
}

static int fail(struct chatreq *q, int rc)
{
    if (rc != 0)
        chatreq_free(q);
    return rc;
}

static int read_chat(struct chatreq *q, const char *text, size_t n, struct refusal *r)
{
    CHECK(open_body(q, text, n, r));
    CHECK(read_generation(q, q->json, r));
    CHECK(read_messages(q, jt_member(q->json, "messages"), true, r));
    return check_media(q, r);
}

int chatreq_read(struct chatreq *q, const char *text, size_t n, struct refusal *r)
{
    return fail(q, read_chat(q, text, n, r));
}

static int add_input(struct gather *g, const struct json_t *part, const char *where)
{
    bool image;
    if (!mediaref_type(jt_text(jt_member(part, "type"), NULL), &image))
        return refuse(g->r, 400, "invalid_value", where, "%s: expected a video or an image", where);
    return add_media(g, part, where);
}

static int read_media(struct chatreq *q, const char *text, size_t n, struct refusal *r)
{
    struct gather g = {.q = q, .r = r};
    CHECK(open_body(q, text, n, r));
    const struct json_t *input = jt_member(q->json, "input");
    char where[32];
    if (jt_kind_of(jt_member(q->json, "messages")) != JT_NONE)
        CHECK(read_messages(q, jt_member(q->json, "messages"), false, r));
    else if (jt_kind_of(input) == JT_MAP)
        CHECK(add_input(&g, input, "input"));
    for (size_t i = 0; jt_kind_of(input) == JT_LIST && i < jt_count(input); i++) {
        (void)snprintf(where, sizeof where, "input[%zu]", i);
        CHECK(add_input(&g, jt_item(input, i), where));
    }
    if (q->n_media == 0)
        return refuse(r, 400, "invalid_value", "input",
                      "input: expected a video or images; this model has no embeddings of text");
    return check_media(q, r);
}

int chatreq_read_media(struct chatreq *q, const char *text, size_t n, struct refusal *r)
{
    return fail(q, read_media(q, text, n, r));
}

void chatreq_free(struct chatreq *q)
{
    for (size_t i = 0; i < q->n_turn; i++) {
        heap_free(q->turn[i].question);
        heap_free(q->turn[i].answer);
    }
    for (size_t i = 0; i < q->n_media; i++)
        mediaref_free(&q->media[i]);
    heap_free(q->turn);
    heap_free(q->media);
    heap_free(q->stop);
    jt_drop(q->json);
    *q = (struct chatreq){0};
}

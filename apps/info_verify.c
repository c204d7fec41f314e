// SPDX-License-Identifier: MIT
// `ivchat info --verify`: are the files sound, and does the model answer as published?
//
//   files  iv_engine_verify: every value finite, SHA-256 of each file
//   --video yoga.mp4 (the model card's example): its two questions (SPEC 7.6), greedy, our text
//          beside the published one, and a hash of every stage
//
// The published answers are those of the 8B release in bf16 on a GPU. Other releases answer
// otherwise, and even the same one may differ in a word (SPEC 4.2), so a difference is shown,
// not called an error. Hash: FNV-1a, 64 bits, over the stage's elements as they lie in memory;
// equal input, tier and precision give an equal hash.
//
// Easy to get wrong: the second question needs our first answer in the history, not the published
// one.

#include <stdio.h>
#include <string.h>

#include "info.h"
#include "npy_save.h"
#include "savefile.h"

static const struct {
    const char *question, *answer;
} card[] = {
    {"describe the action step by step.",
     "The video shows a woman performing yoga on a rooftop with a beautiful view of the mountains "
     "in "
     "the background. She starts by standing on her hands and knees, then moves into a downward "
     "dog "
     "position, and finally ends with a standing position. Throughout the video, she maintains a "
     "steady and fluid movement, focusing on her breath and alignment. The video is a great "
     "example "
     "of how yoga can be practiced in different environments and how it can be a great way to "
     "connect with nature and find inner peace."},
    {"What is she wearing?",
     "The woman in the video is wearing a black tank top and grey yoga pants."},
};

static uint64_t fnv1a(const unsigned char *p, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}

void stage_hashes_watch(void *user, const char *name, const char *dtype, const void *data,
                        const size_t *dim, unsigned n_dim)
{
    struct stage_hashes *all = user;
    struct iv_error e;
    size_t bytes = npy_bytes(dtype, dim, n_dim, &e);
    bool listed = strncmp(name, "vit_block_", 10) != 0 && all->n < STAGE_HASHES && bytes > 0;
    for (size_t i = 0; i < all->n && listed; i++)
        listed = strcmp(all->stage[i].name, name) != 0; // the first turn's
    if (!listed)
        return;
    struct stage_hash *s = &all->stage[all->n++];
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    memcpy(s->dim, dim, n_dim * sizeof *dim);
    s->n_dim = n_dim;
    s->hash = fnv1a(data, bytes);
}

static void tell_hashes(struct work *w, struct json_writer *json)
{
    const struct stage_hashes *all = w->watch_user;
    char hash[20], shape[200];
    if (json)
        jw_object(json, "stages");
    for (size_t i = 0; i < all->n; i++) {
        const struct stage_hash *s = &all->stage[i];
        size_t n = 0;
        shape[0] = 0;
        for (unsigned d = 0; d < s->n_dim; d++)
            n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%zu", d ? "," : "", s->dim[d]);
        (void)snprintf(hash, sizeof hash, "%016llx", (unsigned long long)s->hash);
        if (json)
            jw_text(json, s->name, hash);
        else
            (void)console_print(w->con, "  %-14s %s [%s]\n", s->name, hash, shape);
    }
    if (json)
        jw_end(json);
}

struct report {
    struct work *w;
    struct json_writer *json;
};

static void on_line(void *user, const char *line)
{
    struct report *r = user;
    if (r->json)
        jw_text(r->json, NULL, line);
    else
        (void)console_print(r->w->con, "  %s\n", line);
}

int info_verify(struct work *w, struct json_writer *json)
{
    const struct iv_engine_info *info = iv_engine_info(w->engine);
    struct report report = {w, json};
    if (json) {
        jw_object(json, "verify");
        jw_count(json, "tensors_as_expected", info->n_tensor);
        jw_array(json, "report");
    } else {
        (void)console_print(w->con,
                            "\nverify\n  %llu tensors: names, shapes and types as expected\n",
                            (unsigned long long)info->n_tensor);
    }
    int rc = iv_engine_verify(w->engine, on_line, &report, &w->error);
    if (json) {
        jw_end(json);
        jw_flag(json, "ok", rc == IV_OK);
        jw_end(json);
    } else if (rc == IV_OK) {
        (void)console_print(w->con, "  ok\n");
    }
    return rc;
}

static size_t first_difference(const char *a, const char *b)
{
    size_t i = 0;
    while (a[i] && a[i] == b[i])
        i++;
    return i;
}

// The dimensions of the release that the published answers come from (SPEC 1.2).
static bool is_published_size(const struct iv_engine_info *i)
{
    return i->vit_d_model == 1408 && i->vit_n_layer == 39 && i->llm_d_model == 4096 &&
           i->llm_n_layer == 32;
}

static const char *caveat(const struct iv_engine_info *i)
{
    if (!is_published_size(i))
        return "this model has other dimensions than the release: its answers have nothing in "
               "common "
               "with the published ones";
    if (strcmp(i->variant, "8b") != 0)
        return "the published answers are those of the 8B release; other releases answer otherwise";
    return "the published answers were computed in bf16 on a GPU; a word may differ";
}

static void tell_answer(struct work *w, struct json_writer *json, size_t k, const char *ours)
{
    size_t at = first_difference(ours, card[k].answer);
    bool equal = strcmp(ours, card[k].answer) == 0;
    if (json) {
        jw_object(json, NULL);
        jw_text(json, "question", card[k].question);
        jw_text(json, "published", card[k].answer);
        jw_text(json, "ours", ours);
        jw_flag(json, "equal", equal);
        if (!equal)
            jw_count(json, "first_difference", at);
        jw_end(json);
        return;
    }
    (void)console_print(w->con, "  question   %s\n  published  %s\n  ours       ", card[k].question,
                        card[k].answer);
    (void)console_write_answer(w->con, ours, strlen(ours));
    if (equal)
        (void)console_print(w->con, "\n  equal\n");
    else
        (void)console_print(w->con, "\n  differs from byte %zu on\n", at);
}

static int ask_all(struct work *w, iv_session *session, struct json_writer *json)
{
    struct iv_ask_options ask = iv_ask_options_default();
    for (size_t k = 0; k < sizeof card / sizeof *card; k++) {
        struct iv_answer answer = {0};
        int rc = iv_session_ask(session, card[k].question, &ask, &answer, &w->error);
        if (rc != IV_OK)
            return rc;
        tell_answer(w, json, k, answer.text);
        iv_answer_free(&answer);
    }
    return IV_OK;
}

int info_ask(struct work *w, struct json_writer *json)
{
    const char *note = caveat(iv_engine_info(w->engine));
    struct iv_session_options o = iv_session_options_default();
    iv_session *session;
    o.callbacks = work_callbacks(w);
    int rc = iv_session_open(w->engine, w->media, &o, &session, &w->error);
    if (rc != IV_OK)
        return rc;
    if (json) {
        jw_object(json, "published_questions");
        jw_text(json, "note", note);
        jw_array(json, "answers");
    } else {
        (void)console_print(w->con, "\npublished questions\n  note       %s\n", note);
    }
    rc = ask_all(w, session, json);
    if (json)
        jw_end(json);
    if (rc == IV_OK)
        tell_hashes(w, json);
    if (json)
        jw_end(json);
    iv_session_close(session);
    return rc;
}

// SPDX-License-Identifier: MIT
// Any texts in every place of a prompt. Without allow_special the control ids and the visual positions are
// those of the same request with harmless texts; the conversation holds every text.
// Input: one byte (bits 0-1 variant, 2-3 media, 4 allow_special, 5 answer_special), then texts separated by
// zero bytes: instruction, msg, question, answer prefix, then questions and answers of past turns.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "chat/prompt.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { N_CONTROL = 8, MAX_TURN = 8, MAX_TEXT = 4 + 2 * MAX_TURN, N_QUERY = 3, N_CLIP = 2 };

static struct tokenizer *mistral, *internlm2;

static void make(void)
{
    static const char *const control[N_CONTROL] = {
        "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[control_9]", "<|im_start|>", "<|im_end|>"};
    static char byte[256][8];
    struct tokenizer_piece p[N_CONTROL + 256 + 1];
    for (size_t i = 0; i < N_CONTROL; i++)
        p[i] = (struct tokenizer_piece){
            .p = control[i], .n = strlen(control[i]), .type = i ? PIECE_CONTROL : PIECE_UNKNOWN};
    for (size_t i = 0; i < 256; i++) {
        snprintf(byte[i], sizeof byte[i], "<0x%02X>", (unsigned)i);
        p[N_CONTROL + i] = (struct tokenizer_piece){.p = byte[i], .n = 6, .type = PIECE_BYTE};
    }
    p[N_CONTROL + 256] =
        (struct tokenizer_piece){.p = "\xE2\x96\x81", .n = 3, .score = -1, .type = PIECE_NORMAL};
    struct err e;
    size_t n = sizeof p / sizeof *p;
    require(tokenizer_open_pieces(p, n, "small", TOKENIZER_MISTRAL, &mistral, &e) == 0);
    require(tokenizer_open_pieces(p, n, "small", TOKENIZER_INTERNLM2, &internlm2, &e) == 0);
}

static size_t split(const char *p, size_t n, struct prompt_text *text)
{
    size_t n_text = 0;
    while (n > 0 && n_text < MAX_TEXT) {
        const char *end = memchr(p, 0, n);
        size_t len = end ? (size_t)(end - p) : n;
        text[n_text++] = (struct prompt_text){.p = p, .n = len};
        n -= len + (end != NULL);
        p += len + (end != NULL);
    }
    return n_text;
}

// The texts into r, or a harmless text where there is one.
static void fill(struct prompt_request *r, struct prompt_turn *turn, const struct prompt_text *text,
                 size_t n_text, int harmless)
{
    struct prompt_text use[MAX_TEXT] = {{0}};
    for (size_t i = 0; i < n_text; i++) {
        use[i] = text[i];
        if (harmless && text[i].n > 0)
            use[i] = prompt_text_of("x");
    }
    r->instruction = use[0];
    r->msg = r->media == PROMPT_NO_MEDIA ? (struct prompt_text){0} : use[1];
    r->question = use[2];
    r->answer_prefix = use[3];
    r->n_turn = n_text > 4 ? (n_text - 4) / 2 : 0;
    for (size_t i = 0; i < r->n_turn; i++)
        turn[i] = (struct prompt_turn){.question = use[4 + 2 * i], .answer = use[5 + 2 * i]};
    r->turn = turn;
}

static size_t control_ids(const struct tokenizer *t, const struct prompt *p, int32_t *out,
                          size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < p->ids.n && n < max; i++)
        if (p->ids.v[i] == PROMPT_VISUAL || tokenizer_is_added(t, p->ids.v[i]))
            out[n++] = p->ids.v[i];
    return n;
}

static void check_trust(const struct tokenizer *t, const struct prompt_request *r,
                        const struct prompt_text *text, size_t n_text, const struct prompt *got)
{
    enum { MAX = 256 };
    struct prompt_turn turn[MAX_TURN];
    struct prompt_request plain = *r;
    struct prompt want;
    struct err e;
    int32_t a[MAX], b[MAX];
    fill(&plain, turn, text, n_text, 1);
    require(prompt_build(&want, t, &plain, &e) == 0);
    size_t n_a = control_ids(t, got, a, MAX), n_b = control_ids(t, &want, b, MAX);
    require(n_a == n_b && memcmp(a, b, n_a * sizeof *a) == 0);
    require(got->n_visual == want.n_visual);
    prompt_free(&want);
}

static size_t length_of(const struct prompt_request *r)
{
    size_t n = r->instruction.n + r->question.n + r->answer_prefix.n;
    for (size_t i = 0; i < r->n_turn; i++)
        n += r->turn[i].question.n + r->turn[i].answer.n;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > 4096)
        return 0;
    if (!mistral)
        make();
    enum variant v = (enum variant)(data[0] & 3);
    const struct tokenizer *t = v == VARIANT_INTERNLM ? internlm2 : mistral;
    struct prompt_text text[MAX_TEXT];
    struct prompt_turn turn[MAX_TURN];
    size_t n_text = split((const char *)data + 1, n - 1, text);
    struct prompt_request r = {.tmpl = template_of(v),
                               .media = (enum prompt_media)((data[0] >> 2) % 3),
                               .n_clip = v == VARIANT_8B ? 1 : N_CLIP,
                               .n_query = N_QUERY,
                               .allow_special = data[0] >> 4 & 1};
    fill(&r, turn, text, n_text, 0);
    for (size_t i = 0; i < r.n_turn; i++)
        turn[i].answer_special = data[0] >> 5 & 1;
    struct prompt p;
    struct buf conversation = {0};
    struct err e;
    int rc = prompt_build(&p, t, &r, &e);
    require(rc == prompt_conversation(&r, &conversation, &e));
    if (rc == 0) {
        require(p.n_visual == (r.media == PROMPT_NO_MEDIA ? 0 : r.n_clip * N_QUERY));
        require(conversation.len >= length_of(&r));
        if (!r.allow_special && !(data[0] >> 5 & 1))
            check_trust(t, &r, text, n_text, &p);
    } else {
        require(rc == ERR_USAGE && r.allow_special);
    }
    buf_free(&conversation);
    prompt_free(&p);
    return 0;
}

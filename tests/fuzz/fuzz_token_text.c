// SPDX-License-Identifier: MIT
// Any text to ids and back, with a small vocabulary. Plain text never becomes a control token, comes back as
// it was (U+2581 as a space, invalid bytes as U+FFFD) and does not depend on where spans are cut. The same
// bytes as ids: the stream is whole characters.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "text/detok.h"
#include "text/tokenizer.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct tokenizer *mistral, *internlm2;

static void make(void)
{
    static const char *const control[] = {"<unk>",  "<s>",     "</s>",
                                          "[INST]", "[/INST]", "<|im_end|>"};
    static const char *const user[] = {"--", "----", "[UNUSED_TOKEN_1]"};
    static const char *const normal[] = {"\xE2\x96\x81",
                                         "a",
                                         "b",
                                         "c",
                                         ".",
                                         "'",
                                         "s",
                                         "\xC3\xA9",
                                         ("\xE2\x96\x81"
                                          "a"),
                                         "ab",
                                         "bc",
                                         "abc",
                                         "\xE2\x96\x81\xE2\x96\x81",
                                         "'s",
                                         "aa",
                                         "aaaa"};
    enum { N_CONTROL = 6, N_USER = 3, N_NORMAL = 16, N = N_CONTROL + 256 + N_USER + N_NORMAL };
    static struct tokenizer_piece p[N];
    static char byte[256][8];
    struct err e;
    size_t k = 0;
    for (int i = 0; i < N_CONTROL; i++)
        p[k++] = (struct tokenizer_piece){control[i], strlen(control[i]), 0,
                                          i ? PIECE_CONTROL : PIECE_UNKNOWN};
    for (unsigned i = 0; i < 256; i++) {
        snprintf(byte[i], sizeof byte[i], "<0x%02X>", i);
        p[k++] = (struct tokenizer_piece){byte[i], 6, 0, PIECE_BYTE};
    }
    for (int i = 0; i < N_USER; i++)
        p[k++] = (struct tokenizer_piece){user[i], strlen(user[i]), 0, PIECE_USER};
    for (int i = 0; i < N_NORMAL; i++) // equal scores in pairs, so that ties occur
        p[k++] =
            (struct tokenizer_piece){normal[i], strlen(normal[i]), (float)-(i / 2), PIECE_NORMAL};
    require(tokenizer_open_pieces(p, N, "f", TOKENIZER_INTERNLM2, &internlm2, &e) == 0);
    for (int i = 0; i < N_USER; i++) // user-defined pieces are added tokens of this kind
        p[N_CONTROL + 256 + i].type = PIECE_NORMAL;
    require(tokenizer_open_pieces(p, N, "f", TOKENIZER_MISTRAL, &mistral, &e) == 0);
}

static void encode(const struct tokenizer *t, const struct text_span *s, size_t n, struct ids *out)
{
    struct err e;
    ids_reset(out);
    require(tokenizer_encode(t, s, n, out, &e) == 0);
}

static void check_text(const struct tokenizer *t, const char *p, size_t n)
{
    struct ids whole = {0}, cut = {0};
    struct buf back = {0}, want = {0};
    struct err e;
    size_t at = n ? (unsigned char)p[0] % n : 0;
    struct text_span span = {p, n, false}, two[] = {{p, at, false}, {p + at, n - at, false}};
    encode(t, &span, 1, &whole);
    encode(t, two, 2, &cut);
    require(whole.n == cut.n && memcmp(whole.v, cut.v, cut.n * sizeof *cut.v) == 0);
    for (size_t i = 1; i < whole.n; i++)
        require(!tokenizer_is_added(t, whole.v[i]));
    if (t == mistral) {
        for (size_t i = 0; i < n;) {
            uint32_t cp = 0;
            int len = utf8_decode(p + i, n - i, &cp);
            if (len <= 0)
                buf_add(&want, "\xEF\xBF\xBD", 3);
            else if (cp == 0x2581)
                buf_add(&want, " ", 1);
            else
                buf_add(&want, p + i, (size_t)len);
            i += len > 0 ? (size_t)len : 1;
        }
        require(tokenizer_decode(t, whole.v, whole.n, &back, &e) == 0);
        require(back.len == want.len && (!want.len || memcmp(back.data, want.data, want.len) == 0));
    }
    two[0].special = span.special = true;
    encode(t, two, 2, &cut); // a special half, whatever it gives
    encode(t, &span, 1, &cut);
    for (size_t i = 0; i < cut.n; i++)
        require(cut.v[i] >= 0 && (size_t)cut.v[i] < tokenizer_size(t));
    ids_free(&whole);
    ids_free(&cut);
    buf_free(&back);
    buf_free(&want);
}

static void check_ids(const struct tokenizer *t, const uint8_t *data, size_t n)
{
    struct buf whole = {0}, stream = {0};
    struct ids ids = {0};
    struct detok d;
    struct err e;
    detok_init(&d, t);
    for (size_t i = 0; i + 1 < n; i += 2) {
        int32_t id = (int32_t)((size_t)(data[i] | data[i + 1] << 8) % tokenizer_size(t));
        require(ids_add(&ids, id, &e) == 0);
        size_t before = stream.len;
        require(detok_push(&d, id, &stream, &e) == 0);
        require(stream.len == before || utf8_valid(stream.data + before, stream.len - before));
    }
    require(detok_finish(&d, &stream, &e) == 0);
    require(tokenizer_decode(t, ids.v, ids.n, &whole, &e) == 0);
    require(whole.len == stream.len &&
            (!whole.len || memcmp(whole.data, stream.data, whole.len) == 0));
    ids_free(&ids);
    buf_free(&whole);
    buf_free(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!mistral)
        make();
    check_text(mistral, (const char *)data, n);
    check_text(internlm2, (const char *)data, n);
    check_ids(mistral, data, n);
    check_ids(internlm2, data, n);
    return 0;
}

// SPDX-License-Identifier: MIT
// The pieces are one list; JSON gets merges in rank order, the model gets scores in the same order. Every
// way to split a piece into two pieces is a merge, as in the files that are made from a model.
#include "text_fixture.h"

#include <string.h>

#define MARK "\xE2\x96\x81"

static const char *const ordinary[] = {
    MARK, "a", "b", "c", "d", "\xC3\xA9", MARK "a", "ab", MARK "ab", "bc", "abc", MARK MARK, "."};
static const char *const first[] = {"<unk>", "<s>", "</s>", "[INST]", "[/INST]"};
static const char *const merges[] = {MARK " a", "a b",  MARK "a b", MARK " ab",
                                     "b c",     "ab c", "a bc",     MARK " " MARK};

enum { N_FIRST = 5, N_ORDINARY = FX_COUNT - FX_SPACE };

void fixture_json(struct buf *b)
{
    buf_add_str(b, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (int i = 0; i < N_FIRST; i++)
        buf_printf(b, "%s{\"id\":%d,\"content\":\"%s\",\"lstrip\":false,\"special\":true}",
                   i ? "," : "", i, first[i]);
    buf_add_str(b, "],\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{");
    for (int i = 0; i < N_FIRST; i++)
        buf_printf(b, "\"%s\":%d,", first[i], i);
    for (int i = 0; i < 256; i++)
        buf_printf(b, "\"<0x%02X>\":%d,", (unsigned)i, FX_BYTE + i);
    for (int i = 0; i < N_ORDINARY; i++)
        buf_printf(b, "%s\"%s\":%d", i ? "," : "", ordinary[i], FX_SPACE + i);
    buf_add_str(b, "},\"merges\":[");
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++)
        buf_printf(b, "%s\"%s\"", i ? "," : "", merges[i]);
    buf_add_str(b, "]}}");
}

void fixture_varint(struct buf *b, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 0x7F) | (v > 0x7F ? 0x80 : 0));
        buf_add(b, &byte, 1);
        v >>= 7;
    } while (v);
}

void fixture_piece(struct buf *b, const char *p, size_t n, float score, unsigned type)
{
    struct buf m = {0};
    buf_add(&m, "\x0A", 1); // field 1, bytes
    fixture_varint(&m, n);
    buf_add(&m, p, n);
    buf_add(&m, "\x15", 1); // field 2, four bytes
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    for (int i = 0; i < 4; i++) {
        uint8_t byte = (uint8_t)(bits >> 8 * i);
        buf_add(&m, &byte, 1);
    }
    if (type) {
        buf_add(&m, "\x18", 1); // field 3, varint
        fixture_varint(&m, type);
    }
    buf_add(b, "\x0A", 1);
    fixture_varint(b, m.len);
    buf_add(b, m.data, m.len);
    buf_free(&m);
}

void fixture_options(struct buf *b, bool prefix)
{
    static const char trainer[] = "\x12\x05\x18\x02\x98\x02\x01"; // model_type 2, byte_fallback 1
    static const char identity[] = "\x0A\x08identity\x18";
    buf_add(b, trainer, sizeof trainer - 1);
    buf_add(b, "\x1A\x0E", 2); // normalizer_spec of 14 bytes
    buf_add(b, identity, sizeof identity - 1);
    buf_add(b, prefix ? "\x01" : "\x00", 1); // add_dummy_prefix
    buf_add(b, "\x20\x00", 2);               // remove_extra_whitespaces
}

static void piece(struct buf *b, const char *p, float score, unsigned type)
{
    fixture_piece(b, p, strlen(p), score, type);
}

void fixture_model(struct buf *b, bool internlm2)
{
    for (int i = 0; i < N_FIRST; i++)
        piece(b, first[i], 0, i == FX_UNK ? 2 : 3);
    for (int i = 0; i < 256; i++) {
        struct buf name = {0};
        buf_printf(&name, "<0x%02X>", (unsigned)i);
        piece(b, name.data, 0, 6);
        buf_free(&name);
    }
    for (int i = 0; i < N_ORDINARY; i++)
        piece(b, ordinary[i], (float)-i, 0);
    if (internlm2) {
        piece(b, "--", 0, 4);
        piece(b, "----", 0, 4);
        piece(b, "[UNUSED_TOKEN_1]", 0, 4);
        piece(b, "[UNUSED_TOKEN_145]", 0, 4);
        piece(b, "[UNUSED_TOKEN_146]", 0, 4);
    }
    fixture_options(b, !internlm2);
}

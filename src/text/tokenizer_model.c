// SPDX-License-Identifier: MIT
// tokenizer.model: SentencePiece's ModelProto, read by hand. Only what is needed, strictly:
//   ModelProto      1 pieces (message, repeated)  2 trainer_spec  3 normalizer_spec
//   SentencePiece   1 piece (string)  2 score (float)  3 type (enum, 1 when absent)
//   TrainerSpec     3 model_type (2 = BPE)  24 treat_whitespace_as_suffix  35 byte_fallback
//   NormalizerSpec  2 precompiled_charsmap  3 add_dummy_prefix  4 remove_extra_whitespaces
//                   5 escape_whitespaces
// A field is a varint key (number << 3 | wire type) and a value; wire types 0 varint, 1 eight bytes, 2
// length and bytes, 5 four bytes. Other fields are skipped, groups (3, 4) refused.
//   0a 0b | 0a 02 e2 96 .. = piece of 11 bytes, holding the string field ...
// Source: SentencePiece's public message definition; SPEC 6.5, 6.7.
//
// Easy to get wrong: a length is compared with what is left, never added to a pointer first; options have
// defaults that matter when absent (remove_extra_whitespaces and add_dummy_prefix are on); MISTRAL's own
// add_dummy_prefix is switched off by the slow tokenizer, which prepends U+2581 itself.
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/tokenizer_parts.h"

enum { WIRE_VARINT = 0, WIRE_8 = 1, WIRE_BYTES = 2, WIRE_4 = 5, MODEL_BPE = 2 };

// What is left of a message.
struct reader {
    const uint8_t *p;
    size_t n;
    const uint8_t *start; // of the file, for messages
    const char *name;
};

struct field {
    uint64_t number;
    unsigned wire;
    uint64_t value;     // WIRE_VARINT, WIRE_8, WIRE_4 (little-endian)
    struct reader body; // WIRE_BYTES
};

static int broken(const struct reader *r, const char *what, struct err *e)
{
    return err_set(e, ERR_MODEL, "%s: byte %zu: %s", r->name, (size_t)(r->p - r->start), what);
}

static int read_varint(struct reader *r, uint64_t *out, struct err *e)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->n == 0)
            return broken(r, "the file ends inside a number", e);
        uint64_t b = *r->p & 0x7F;
        bool more = *r->p & 0x80;
        if (shift == 63 && b > 1)
            break;
        r->p++;
        r->n--;
        *out |= b << shift;
        if (!more)
            return 0;
    }
    return broken(r, "a number has more than 64 bits", e);
}

static int read_fixed(struct reader *r, size_t width, uint64_t *out, struct err *e)
{
    *out = 0;
    if (r->n < width)
        return broken(r, "the file ends inside a number", e);
    for (size_t i = 0; i < width; i++)
        *out |= (uint64_t)r->p[i] << 8 * i;
    r->p += width;
    r->n -= width;
    return 0;
}

// Reads the next field; the reader must not be at its end.
static int read_field(struct reader *r, struct field *f, struct err *e)
{
    uint64_t key, len;
    int rc = 0;
    memset(f, 0, sizeof *f);
    TRY(read_varint(r, &key, e));
    f->number = key >> 3;
    f->wire = (unsigned)(key & 7);
    if (f->number == 0 || f->number >> 29)
        return broken(r, "a field number out of range", e);
    switch (f->wire) {
    case WIRE_VARINT:
        TRY(read_varint(r, &f->value, e));
        break;
    case WIRE_8:
        TRY(read_fixed(r, 8, &f->value, e));
        break;
    case WIRE_4:
        TRY(read_fixed(r, 4, &f->value, e));
        break;
    case WIRE_BYTES:
        TRY(read_varint(r, &len, e));
        if (len > r->n)
            return broken(r, "a field is longer than what is left", e);
        f->body = *r;
        f->body.n = (size_t)len;
        r->p += len;
        r->n -= (size_t)len;
        break;
    default:
        rc = broken(r, "a field of unknown wire type", e);
    }
fail:
    return rc;
}

static int expect_wire(const struct reader *r, const struct field *f, unsigned wire, struct err *e)
{
    return f->wire == wire ? 0 : broken(r, "a field has the wrong wire type", e);
}

static int read_piece(struct reader r, size_t index, struct tokenizer_piece *out, struct err *e)
{
    struct field f;
    int rc = 0;
    *out = (struct tokenizer_piece){.type = PIECE_NORMAL};
    while (r.n) {
        TRY(read_field(&r, &f, e));
        if (f.number == 1) {
            TRY(expect_wire(&r, &f, WIRE_BYTES, e));
            out->p = (const char *)f.body.p;
            out->n = f.body.n;
        } else if (f.number == 2) {
            TRY(expect_wire(&r, &f, WIRE_4, e));
            uint32_t bits = (uint32_t)f.value;
            memcpy(&out->score, &bits, sizeof bits);
        } else if (f.number == 3) {
            TRY(expect_wire(&r, &f, WIRE_VARINT, e));
            if (f.value != PIECE_NORMAL && f.value != PIECE_UNKNOWN && f.value != PIECE_CONTROL &&
                f.value != PIECE_USER && f.value != PIECE_BYTE)
                return err_set(e, ERR_MODEL, "%s: piece %zu has type %" PRIu64 ", not supported",
                               r.name, index, f.value);
            out->type = (enum piece_type)f.value;
        }
    }
fail:
    return rc;
}

struct options {
    uint64_t model_type, suffix, byte_fallback;      // trainer_spec
    uint64_t charsmap, prefix, strip, escape_spaces; // normalizer_spec; charsmap = its length
};

static int read_options(struct reader r, bool trainer, struct options *o, struct err *e)
{
    struct field f;
    int rc = 0;
    while (r.n) {
        TRY(read_field(&r, &f, e));
        uint64_t *to = NULL;
        if (trainer)
            to = f.number == 3    ? &o->model_type
                 : f.number == 24 ? &o->suffix
                 : f.number == 35 ? &o->byte_fallback
                                  : NULL;
        else
            to = f.number == 3   ? &o->prefix
                 : f.number == 4 ? &o->strip
                 : f.number == 5 ? &o->escape_spaces
                                 : NULL;
        if (to) {
            TRY(expect_wire(&r, &f, WIRE_VARINT, e));
            *to = f.value;
        } else if (!trainer && f.number == 2) {
            TRY(expect_wire(&r, &f, WIRE_BYTES, e));
            o->charsmap = f.body.n;
        }
    }
fail:
    return rc;
}

static int check_options(const struct options *o, enum tokenizer_kind kind, const char *name,
                         struct err *e)
{
    if (o->model_type != MODEL_BPE)
        return err_set(e, ERR_MODEL, "%s: model type %" PRIu64 ", only BPE (2) is supported", name,
                       o->model_type);
    if (!o->byte_fallback)
        return err_set(e, ERR_MODEL, "%s: byte_fallback is off", name);
    if (o->suffix || o->charsmap || o->strip || !o->escape_spaces)
        return err_set(e, ERR_MODEL, "%s: the normaliser is not the identity", name);
    if (kind == TOKENIZER_INTERNLM2 && o->prefix)
        return err_set(e, ERR_MODEL, "%s: add_dummy_prefix is on, not so in InternLM2", name);
    return 0;
}

static int read_model(struct reader r, enum tokenizer_kind kind, struct tokenizer_piece **out,
                      size_t *n, struct err *e)
{
    struct reader again = r;
    struct options o = {.model_type = 1, .prefix = 1, .strip = 1, .escape_spaces = 1};
    struct field f;
    size_t count = 0;
    int rc = 0;
    while (r.n) {
        TRY(read_field(&r, &f, e));
        if (f.number < 1 || f.number > 3)
            continue;
        TRY(expect_wire(&r, &f, WIRE_BYTES, e));
        count += f.number == 1;
        if (f.number != 1)
            TRY(read_options(f.body, f.number == 2, &o, e));
    }
    TRY(check_options(&o, kind, r.name, e));
    if (count == 0 || count > VOCAB_COUNT_MAX)
        return err_set(e, ERR_MODEL, "%s: %zu pieces, 1 to %d are accepted", r.name, count,
                       VOCAB_COUNT_MAX);
    *out = mem_calloc(count, sizeof **out);
    if (!*out)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", r.name, count);
    while (again.n) {
        TRY(read_field(&again, &f, e));
        if (f.number != 1)
            continue;
        TRY(read_piece(f.body, *n, &(*out)[*n], e));
        ++*n;
    }
fail:
    return rc;
}

int tokenizer_model_pieces(const void *model, size_t n, const char *name, enum tokenizer_kind kind,
                           struct tokenizer_piece **out, size_t *n_piece, struct err *e)
{
    *out = NULL;
    *n_piece = 0;
    int rc = read_model((struct reader){.p = model, .n = n, .start = model, .name = name}, kind,
                        out, n_piece, e);
    if (rc != 0) {
        mem_free(*out);
        *out = NULL;
        *n_piece = 0;
    }
    return rc;
}

int tokenizer_open_model(const void *model, size_t n, const char *config, size_t n_config,
                         const char *name, enum tokenizer_kind kind, struct tokenizer **out,
                         struct err *e)
{
    struct js_doc doc = {NULL};
    struct tokenizer_piece *piece = NULL;
    struct added_token *added = NULL;
    struct tokenizer_source src = {.name = name, .kind = kind};
    int rc = 0;
    *out = NULL;
    TRY(read_model((struct reader){.p = model, .n = n, .start = model, .name = name}, kind, &piece,
                   &src.n_piece, e));
    if (config) {
        // model_max_length is 1e30 written as an integer
        TRY(js_parse_reals(&doc, config, n_config, "tokenizer_config.json", ERR_MODEL, e));
        TRY(tokenizer_config_added(&doc, "tokenizer_config.json", &added, &src.n_added, e));
    }
    src.piece = piece;
    src.added = added;
    TRY(tokenizer_build(&src, out, e));
fail:
    mem_free(piece);
    mem_free(added);
    js_free(&doc);
    return rc;
}

int tokenizer_open_pieces(const struct tokenizer_piece *piece, size_t n, const char *name,
                          enum tokenizer_kind kind, struct tokenizer **out, struct err *e)
{
    *out = NULL;
    struct tokenizer_source src = {.name = name, .kind = kind, .piece = piece, .n_piece = n};
    for (size_t i = 0; i < n; i++)
        if (piece[i].type < PIECE_NORMAL || piece[i].type > PIECE_BYTE)
            return err_set(e, ERR_MODEL, "%s: piece %zu has type %d, not supported", name, i,
                           (int)piece[i].type);
    return tokenizer_build(&src, out, e);
}

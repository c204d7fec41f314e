// SPDX-License-Identifier: MIT
// BERT's BasicTokenizer and WordPiece, one character at a time.
//   special tokens out -> lower case, control characters dropped -> words end at spaces, each CJK ideograph
//   and each punctuation mark is a word of its own -> canonical decomposition, nonspacing marks dropped
//   -> longest pieces from the left, "##" in front of all but the first; a word that cannot be built, or
//   has more than 100 characters, is [UNK]
// Source: SPEC 5.3; the slow BertTokenizer of transformers 4.39, which lower-cases character by character
// (no final sigma).
//
// Easy to get wrong: punctuation is looked for after the decomposition (U+2260 is "=" and a mark); a mark
// dropped from a word does not end it; truncation keeps the last 510 tokens, not the first. Not done: the
// canonical order of marks that stay (category Mc), since a word with such marks has no pieces anyway.
#include "text/wordpiece.h"

#include <string.h>
#include <unistd.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "base/size.h"
#include "text/bert_vocab.h"
#include "text/cleanup.h"
#include "text/trie.h"
#include "text/unicode.h"
#include "text/vocab.h"

enum {
    WORD_MAX = 100,               // characters
    KEEP = WORDPIECE_IDS_MAX - 2, // tokens between [CLS] and [SEP]
    FILE_MAX_BYTES = 16 << 20,
};

static const char *const special_name[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"};
enum { PAD, UNK, CLS, SEP, MASK, DEC, N_SPECIAL };

struct wordpiece {
    struct vocab vocab;
    struct trie special_trie;
    int32_t special[N_SPECIAL]; // [MASK] may be -1
};

// The word being gathered.
struct word {
    char p[WORD_MAX * UTF8_MAX];
    size_t n, n_char; // n_char counts on past WORD_MAX, where bytes are no longer kept
};

struct encoder {
    const struct wordpiece *w;
    struct ids *out;
    size_t first; // of out: the first token after [CLS]
    struct word word;
};

static int find_special(struct wordpiece *w, const char *name, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < N_SPECIAL; i++) {
        size_t n = strlen(special_name[i]);
        int32_t id = vocab_find(&w->vocab, special_name[i], n);
        if (i == DEC && id < 0) { // the token that the model's code adds
            TRY(vocab_add(&w->vocab, special_name[i], n, name, e));
            id = (int32_t)w->vocab.n - 1;
        }
        w->special[i] = id;
        if (id >= 0)
            TRY(trie_add(&w->special_trie, special_name[i], n, id, e));
        else if (i != MASK)
            return err_set(e, ERR_MODEL, "%s: there is no %s", name, special_name[i]);
    }
fail:
    return rc;
}

int wordpiece_open_text(const char *text, size_t n, const char *name, struct wordpiece **out,
                        struct err *e)
{
    size_t lines = 0;
    int rc = 0;
    *out = NULL;
    struct wordpiece *w = mem_calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_LIMIT, "%s: out of memory", name);
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n' || i + 1 == n;
    TRY(vocab_init(&w->vocab, lines + 1, n + strlen(special_name[DEC]), name, e));
    for (size_t i = 0, end; i < n; i = end + 1) {
        const char *nl = memchr(text + i, '\n', n - i);
        end = nl ? (size_t)(nl - text) : n;
        size_t len = end - i;
        if (len && text[end - 1] == '\r')
            len--;
        if (!utf8_valid(text + i, len)) {
            rc = err_set(e, ERR_MODEL, "%s: line %zu is not valid UTF-8", name, w->vocab.n + 1);
            goto fail;
        }
        TRY(vocab_add(&w->vocab, text + i, len, name, e));
    }
    TRY(find_special(w, name, e));
    *out = w;
    return 0;
fail:
    wordpiece_close(w);
    return rc;
}

int wordpiece_open(const char *dir, struct wordpiece **out, struct err *e)
{
    struct buf path = {0};
    char *text = NULL;
    size_t n;
    int rc = 0;
    *out = NULL;
    if (dir && !buf_printf(&path, "%s/vocab.txt", dir)) {
        rc = err_set(e, ERR_LIMIT, "vocab.txt: out of memory");
        goto fail;
    }
    if (dir && access(path.data, F_OK) == 0) {
        TRY(file_read(path.data, FILE_MAX_BYTES, ERR_MODEL, &text, &n, e));
        TRY(wordpiece_open_text(text, n, path.data, out, e));
    } else {
        const char *built_in = bert_vocab_text(&n);
        TRY(wordpiece_open_text(built_in, n, "built-in bert-base-uncased", out, e));
    }
fail:
    mem_free(text);
    buf_free(&path);
    return rc;
}

void wordpiece_close(struct wordpiece *w)
{
    if (!w)
        return;
    vocab_free(&w->vocab);
    trie_free(&w->special_trie);
    mem_free(w);
}

// Adds a token; of more than KEEP only the last are needed, so the array is cut now and then.
static int add_token(struct encoder *c, int32_t id, struct err *e)
{
    struct ids *out = c->out;
    if (out->n - c->first == 8 * (size_t)KEEP) {
        memmove(out->v + c->first, out->v + out->n - KEEP, KEEP * sizeof *out->v);
        out->n = c->first + KEEP;
    }
    return ids_add(out, id, e);
}

// Length of the longest piece that `word` has at `at`, 0 = none.
static size_t longest_piece(const struct encoder *c, size_t at, int32_t *id)
{
    const struct word *word = &c->word;
    char key[2 + sizeof word->p] = "##";
    size_t mark = at ? 2 : 0;
    size_t n = min_size(word->n - at, c->w->vocab.longest);
    memcpy(key + mark, word->p + at, n);
    for (; n; n--) { // pieces are valid UTF-8, so none ends inside a character
        *id = vocab_find(&c->w->vocab, key, mark + n);
        if (*id >= 0)
            break;
    }
    return n;
}

static int end_word(struct encoder *c, struct err *e)
{
    int32_t id[WORD_MAX]; // a piece has at least one character
    size_t n_id = 0, at = 0, n = c->word.n;
    int rc = 0;
    if (c->word.n_char == 0)
        return 0;
    while (c->word.n_char <= WORD_MAX && at < n) {
        size_t len = longest_piece(c, at, &id[n_id]);
        if (len == 0)
            break;
        n_id++;
        at += len;
    }
    bool built = at == n;
    for (size_t i = 0; built && i < n_id; i++)
        TRY(add_token(c, id[i], e));
    if (!built)
        TRY(add_token(c, c->w->special[UNK], e));
fail:
    c->word.n = c->word.n_char = 0;
    return rc;
}

static void add_to_word(struct word *word, uint32_t cp)
{
    if (word->n_char++ < WORD_MAX)
        word->n += utf8_encode(cp, word->p + word->n);
}

static int add_alone(struct encoder *c, uint32_t cp, struct err *e)
{
    int rc;
    TRY(end_word(c, e));
    add_to_word(&c->word, cp);
    TRY(end_word(c, e));
fail:
    return rc;
}

// One lower-case character.
static int add_character(struct encoder *c, uint32_t cp, struct err *e)
{
    uint32_t d[UNI_DECOMPOSE_MAX];
    int rc = 0;
    if (cp == 0 || cp == UNI_REPLACEMENT || uni_is_control(cp))
        return 0;
    if (uni_is_space(cp))
        return end_word(c, e);
    bool cjk = uni_is_cjk(cp);
    if (cjk)
        TRY(end_word(c, e));
    size_t n = uni_decompose(cp, d);
    for (size_t i = 0; i < n; i++) {
        if (uni_is_nonspacing(d[i]))
            continue;
        if (uni_is_punct(d[i]))
            TRY(add_alone(c, d[i], e));
        else
            add_to_word(&c->word, d[i]);
    }
    if (cjk)
        TRY(end_word(c, e));
fail:
    return rc;
}

static int encode_text(struct encoder *c, const struct joined *x, struct err *e)
{
    size_t cursor = 0, step = 0;
    int rc = 0;
    for (size_t i = 0, used; i < x->n; i += used) {
        int32_t id;
        uint32_t cp, lower[2];
        TRY(ids_poll(c->out, step++, e));
        size_t left = joined_special_left(x, i, &cursor);
        used = left ? trie_match(&c->w->special_trie, x->p + i, left, &id) : 0;
        if (used) {
            TRY(end_word(c, e));
            TRY(add_token(c, id, e));
            continue;
        }
        int len = utf8_decode(x->p + i, x->n - i, &cp);
        used = len > 0 ? (size_t)len : 1;
        size_t n = len > 0 ? uni_lower(cp, lower) : 0;
        for (size_t k = 0; k < n; k++)
            TRY(add_character(c, lower[k], e));
    }
    TRY(end_word(c, e));
fail:
    return rc;
}

int wordpiece_encode(const struct wordpiece *w, const struct text_span *span, size_t n_span,
                     struct ids *out, struct err *e)
{
    struct joined x;
    size_t start = out->n;
    struct encoder c = {.w = w, .out = out, .first = start + 1};
    int rc;
    TRY(joined_from_spans(&x, span, n_span, e));
    TRY(ids_add(out, w->special[CLS], e));
    TRY(encode_text(&c, &x, e));
    size_t n = out->n - c.first;
    if (n > KEEP) {
        memmove(out->v + c.first, out->v + out->n - KEEP, KEEP * sizeof *out->v);
        out->n = c.first + KEEP;
    }
    TRY(ids_add(out, w->special[SEP], e));
fail:
    if (rc != 0)
        out->n = start;
    joined_free(&x);
    return rc;
}

static bool is_special(const struct wordpiece *w, int32_t id)
{
    for (size_t i = 0; i < N_SPECIAL; i++)
        if (id == w->special[i])
            return true;
    return false;
}

int wordpiece_decode(const struct wordpiece *w, const int32_t *id, size_t n, struct buf *out,
                     struct err *e)
{
    struct cleanup clean = {{0}};
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *p = wordpiece_piece(w, id[i], &len);
        if (!p)
            return err_set(e, ERR_USAGE, "token id %d is outside the vocabulary of %zu", (int)id[i],
                           w->vocab.n);
        if (is_special(w, id[i]))
            continue;
        bool joins = any && len >= 2 && memcmp(p, "##", 2) == 0;
        if (joins) {
            p += 2;
            len -= 2;
        } else if (any) {
            cleanup_push(&clean, " ", 1, out);
        }
        cleanup_push(&clean, p, len, out);
        any = true;
    }
    cleanup_finish(&clean, out);
    return out->failed ? err_set(e, ERR_LIMIT, "decoded text: out of memory at %zu bytes", out->len)
                       : 0;
}

size_t wordpiece_size(const struct wordpiece *w)
{
    return w->vocab.n;
}

int32_t wordpiece_pad(const struct wordpiece *w)
{
    return w->special[PAD];
}

int32_t wordpiece_find(const struct wordpiece *w, const char *p, size_t n)
{
    return vocab_find(&w->vocab, p, n);
}

const char *wordpiece_piece(const struct wordpiece *w, int32_t id, size_t *n)
{
    *n = 0;
    return id < 0 || (size_t)id >= w->vocab.n ? NULL : vocab_piece(&w->vocab, (size_t)id, n);
}

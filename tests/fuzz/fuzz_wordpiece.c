// SPDX-License-Identifier: MIT
// Any text through WordPiece with the built-in vocabulary, and the same bytes as a vocab.txt.
#include <stdint.h>
#include <string.h>

#include "text/unicode.h"
#include "text/wordpiece.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct wordpiece *bert;

static void check_text(const struct wordpiece *w, const char *p, size_t n)
{
    struct ids whole = {0}, cut = {0};
    struct buf back = {0};
    struct err e;
    size_t at = n ? (unsigned char)p[0] % n : 0;
    struct text_span span = {p, n, false}, two[] = {{p, at, false}, {p + at, n - at, false}};
    require(wordpiece_encode(w, &span, 1, &whole, &e) == 0);
    require(wordpiece_encode(w, two, 2, &cut, &e) == 0);
    require(whole.n == cut.n && memcmp(whole.v, cut.v, cut.n * sizeof *cut.v) == 0);
    require(whole.n >= 2 && whole.n <= WORDPIECE_IDS_MAX);
    require(whole.v[0] == wordpiece_find(w, "[CLS]", 5) &&
            whole.v[whole.n - 1] == wordpiece_find(w, "[SEP]", 5));
    int32_t unk = wordpiece_find(w, "[UNK]", 5);
    for (size_t i = 1; w == bert && i + 1 < whole.n; i++)
        require(whole.v[i] == unk || (whole.v[i] >= 999 && whole.v[i] < 30522));
    ids_reset(&cut);
    two[0].special = true;
    require(wordpiece_encode(w, two, 2, &cut, &e) == 0);
    require(wordpiece_decode(w, cut.v, cut.n, &back, &e) == 0);
    require(utf8_valid(back.data, back.len));
    ids_free(&whole);
    ids_free(&cut);
    buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct wordpiece *w;
    struct err e = {0};
    if (!bert)
        require(wordpiece_open(NULL, &bert, &e) == 0);
    check_text(bert, (const char *)data, n);
    int rc = wordpiece_open_text((const char *)data, n, "f", &w, &e);
    if (rc != 0) {
        require(rc == ERR_MODEL && e.code == rc && e.msg[0] && !w);
        return 0;
    }
    check_text(w, (const char *)data, n);
    wordpiece_close(w);
    return 0;
}

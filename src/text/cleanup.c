// SPDX-License-Identifier: MIT
// clean_up_tokenization of the Python tokenizers: ten replacements, each of the whole text, in this
// order (SPEC 7.5). As a stream they are ten stages in a row, each of which holds back the bytes that may
// still become its pattern; the result is the same because a replacement only looks at its own input.
//
// Easy to get wrong: the order is part of the result (" ' s" loses both spaces to " ' " before " 's" is
// looked for). No pattern begins again inside itself before its last byte, so a stage that fails needs to
// look only at the byte that made it fail.
#include "text/cleanup.h"

#include <string.h>

static const struct {
    const char *from, *to;
} stage[CLEANUP_STAGES] = {
    {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

static void feed(struct cleanup *c, size_t k, const char *p, size_t n, struct buf *out)
{
    if (k == CLEANUP_STAGES) {
        buf_add(out, p, n);
        return;
    }
    const char *from = stage[k].from;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == from[c->held[k]]) {
            if (from[++c->held[k]])
                continue;
            c->held[k] = 0;
            feed(c, k + 1, stage[k].to, strlen(stage[k].to), out);
            continue;
        }
        size_t held = c->held[k];
        c->held[k] = p[i] == from[0];
        if (held)
            feed(c, k + 1, from, held, out);
        if (!c->held[k])
            feed(c, k + 1, p + i, 1, out);
    }
}

void cleanup_push(struct cleanup *c, const char *p, size_t n, struct buf *out)
{
    feed(c, 0, p, n, out);
}

void cleanup_finish(struct cleanup *c, struct buf *out)
{
    for (size_t k = 0; k < CLEANUP_STAGES; k++) {
        size_t held = c->held[k];
        c->held[k] = 0;
        feed(c, k + 1, stage[k].from, held, out);
    }
}

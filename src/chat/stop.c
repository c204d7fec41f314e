// SPDX-License-Identifier: MIT
// Holds back the shortest tail of the text that is enough: from the first position at which all that
// has come agrees with the beginning of a stop. A complete stop wins over an earlier beginning of
// another; of two complete ones the first in the text cuts.
//
// A stop is valid UTF-8, so it begins where a character begins and the text in front of it is whole.
#include "chat/stop.h"

#include <string.h>

#include "base/size.h"
#include "text/unicode.h"

int stop_init(struct stop_match *m, const char *const *stop, size_t n, struct err *e)
{
    memset(m, 0, sizeof *m);
    if (n > STOP_MAX)
        return err_set(e, ERR_USAGE, "stop: %zu texts, the limit is %d", n, STOP_MAX);
    struct stop_match made = {.stop = stop, .n_stop = n};
    for (size_t i = 0; i < n; i++) {
        made.len[i] = stop[i] ? strnlen(stop[i], STOP_BYTES_MAX + 1) : 0;
        if (made.len[i] < 1 || made.len[i] > STOP_BYTES_MAX)
            return err_set(e, ERR_USAGE, "stop: text %zu is not 1 to %d bytes long", i + 1,
                           STOP_BYTES_MAX);
        if (!utf8_valid(stop[i], made.len[i]))
            return err_set(e, ERR_USAGE, "stop: text %zu is not UTF-8", i + 1);
    }
    *m = made;
    return 0;
}

void stop_free(struct stop_match *m)
{
    buf_free(&m->held);
    memset(m, 0, sizeof *m);
}

// Does a stop (whole) or the beginning of one (not whole) stand at p, where n bytes are?
static bool stands_at(const struct stop_match *m, const char *p, size_t n, bool whole)
{
    for (size_t i = 0; i < m->n_stop; i++)
        if ((m->len[i] <= n) == whole && !memcmp(p, m->stop[i], min_size(n, m->len[i])))
            return true;
    return false;
}

static size_t first_at(const struct stop_match *m, bool whole)
{
    size_t i = 0;
    while (i < m->held.len && !stands_at(m, m->held.data + i, m->held.len - i, whole))
        i++;
    return i;
}

static int out_of_memory(const struct stop_match *m, const struct buf *out, struct err *e)
{
    if (!m->held.failed && !out->failed)
        return 0;
    return err_set(e, ERR_LIMIT, "answer: no memory for %zu bytes of text", out->len + m->held.len);
}

int stop_push(struct stop_match *m, const char *p, size_t n, struct buf *out, struct err *e)
{
    int rc;
    if (m->hit || n == 0)
        return 0;
    if (m->n_stop == 0) {
        buf_add(out, p, n);
        return out_of_memory(m, out, e);
    }
    buf_add(&m->held, p, n);
    TRY(out_of_memory(m, out, e));
    size_t cut = first_at(m, true);
    m->hit = cut < m->held.len;
    if (!m->hit)
        cut = first_at(m, false);
    buf_add(out, m->held.data, cut);
    TRY(out_of_memory(m, out, e));
    memmove(m->held.data, m->held.data + cut, m->held.len - cut);
    m->held.len -= cut;
fail:
    return rc;
}

int stop_finish(struct stop_match *m, struct buf *out, struct err *e)
{
    if (!m->hit && m->held.len > 0)
        buf_add(out, m->held.data, m->held.len);
    m->held.len = 0;
    return out_of_memory(m, out, e);
}

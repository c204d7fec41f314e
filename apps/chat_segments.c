// SPDX-License-Identifier: MIT
// `ivchat chat --segments S --each-segment`: the same questions about one piece of a long video after the
// other, each a conversation of its own. Only one piece is in memory at a time.
//
//   text   a line [start-end s] in front of the answers about each piece
//   JSON   "segment": index, start, end in each object
//
// Easy to get wrong: the media that was opened stays open while its segments take its place in the
// work; turns are counted through, so that --json lines stay in order.

#include <stdio.h>
#include <string.h>

#include "chat.h"
#include "savefile.h"
#include "wallclock.h"

static struct chat_segment segment_at(const struct chat *c, const struct iv_media_info *m, size_t i)
{
    const struct settings *s = c->work.s;
    double end = m->segment_s[i] + s->segments;
    if (s->end_s > 0 && end > s->end_s)
        end = s->end_s;
    if (m->duration_s > 0 && end > m->duration_s)
        end = m->duration_s;
    return (struct chat_segment){i, m->n_segment, m->segment_s[i], end};
}

static int head_line(struct chat *c, const struct chat_segment *g)
{
    char line[80];
    int n = snprintf(line, sizeof line, "[%.1f-%.1f s]\n", g->start_s, g->end_s);
    if (c->work.s->json)
        return IV_OK;
    return console_write(c->work.con, line, (size_t)n) && console_flush(c->work.con)
               ? IV_OK
               : app_error(&c->work.error, IV_ERR_FAIL, "standard output is closed");
}

static int answer_segment(struct chat *c, iv_media *all, const struct chat_segment *g)
{
    double begun = clock_seconds();
    int rc = iv_media_segment(all, g->index, &c->work.media, &c->work.error);
    if (rc != IV_OK)
        return rc;
    c->work.media_ms = (g->index == 0 ? c->work.media_ms : 0) + 1e3 * (clock_seconds() - begun);
    c->media_told = false;
    c->next_prompt = 0;
    c->segment = g;
    rc = chat_session_open(c);
    if (rc == IV_OK)
        rc = head_line(c, g);
    if (rc == IV_OK)
        rc = chat_answer_all(c);
    iv_session_close(c->session);
    iv_media_close(c->work.media);
    c->session = NULL;
    c->work.media = NULL;
    c->segment = NULL;
    return rc;
}

int chat_each_segment(struct chat *c)
{
    iv_media *all = c->work.media;
    const struct iv_media_info *m = iv_media_info(all);
    int rc = IV_OK;
    c->work.media = NULL;
    for (size_t i = 0; i < m->n_segment && rc == IV_OK; i++) {
        struct chat_segment g = segment_at(c, m, i);
        rc = answer_segment(c, all, &g);
    }
    iv_media_close(all);
    return rc;
}

// SPDX-License-Identifier: MIT
// Bars of a download on standard error.
//
//   model-00001-of-00004.sa 1.2G/4.9G [=====>       ]  24% 85.2M/s ETA 0:43
//   model-00002-of-00004.sa 0.4G/4.9G [=>           ]   8% 31.0M/s ETA 2:25
//   all 12 files            ...
//
// Easy to get wrong: the block is redrawn in place by moving up as many lines as were drawn, so a line must
// never be longer than the terminal is wide; a rate counts from when a file was first seen, not the bytes
// that an earlier run left.

#include "pullbars.h"

#include <stdio.h>
#include <string.h>

#include "heap.h"
#include "wallclock.h"

enum { BARS_MAX = 12, NAME = 23 };

void pull_bars_clear(struct pull_bars *b)
{
    for (; b->drawn > 0; b->drawn--)
        fputs("\x1b[A\r\x1b[K", stderr);
    (void)fflush(stderr);
}

// The end of a path tells more than its beginning.
static void draw(struct pull_bars *b, const char *name, const struct pull_pace *pace, uint64_t done,
                 uint64_t total, double now)
{
    struct progress p = {.begun = pace->begun, .first = pace->first};
    char text[256];
    size_t n = strlen(name);
    while (n > NAME) {
        name++;
        n--;
    }
    while (((unsigned char)*name & 0xc0) == 0x80)
        name++;
    (void)snprintf(p.stage, sizeof p.stage, "%-*s", NAME, name);
    (void)progress_text(text, sizeof text, &p, done, total, now, progress_columns());
    fprintf(stderr, "%s\x1b[K\n", text);
    b->drawn++;
}

static bool grow(struct pull_bars *b, size_t n)
{
    if (n <= b->n_pace)
        return true;
    struct pull_pace *more = heap_realloc(b->pace, n, sizeof *more);
    if (!more)
        return false;
    memset(more + b->n_pace, 0, (n - b->n_pace) * sizeof *more);
    b->pace = more;
    b->n_pace = n;
    return true;
}

static void draw_all(struct pull_bars *b, const struct iv_hub_file *file, size_t n, uint64_t done,
                     uint64_t size)
{
    double now = clock_seconds();
    char all[32];
    unsigned shown = 0;
    pull_bars_clear(b);
    for (size_t i = 0; i < n && shown < BARS_MAX; i++) {
        struct pull_pace *pace = &b->pace[i];
        if (file[i].state != IV_HUB_RUNNING)
            continue;
        if (pace->begun <= 0)
            *pace = (struct pull_pace){now, file[i].done};
        draw(b, file[i].path, pace, file[i].done, file[i].size, now);
        shown++;
    }
    (void)snprintf(all, sizeof all, "all %zu files", n);
    draw(b, all, &b->total, done, size, now);
    (void)fflush(stderr);
}

void pull_bars_show(struct pull_bars *b, const struct iv_hub_file *file, size_t n)
{
    uint64_t done = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        done += file[i].done;
        size += file[i].size;
    }
    if (b->total.begun <= 0)
        b->total = (struct pull_pace){clock_seconds(), done};
    if (b->con->progress.style != PROGRESS_BAR)
        console_progress(b->con, "pull", done, size);
    else if (grow(b, n))
        draw_all(b, file, n, done, size);
}

void pull_bars_end(struct pull_bars *b)
{
    pull_bars_clear(b);
    heap_free(b->pace);
    b->pace = NULL;
    b->n_pace = 0;
}

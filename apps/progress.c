// SPDX-License-Identifier: MIT
// Progress of decoding, vision, prefill and generation on standard error.
//
//   style    when                       what
//   bar      terminal, not TERM=dumb    one line, redrawn ten times a second at most, then erased
//   lines    elsewhere                  a line once a stage has lasted 2 s, then every 5 s
//            --progress always          also the first and the last report of each stage
//   json     --log-json                 as lines, {"event":"progress",...}
//   none     --quiet, --progress never
//
// rate = units since the stage began / seconds since then; ETA = units left / rate.
//
// Easy to get wrong: the bar must be erased before anything else is written to the terminal,
// standard output included, or it ends up inside an answer; a stage may begin again (the next
// turn) with the same name and a smaller count, and may report its end more than once.

#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "wallclock.h"

#define BAR_EVERY   0.1
#define LINES_AFTER 2.0
#define LINES_EVERY 5.0

unsigned progress_columns(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return 80;
}

// 950, 12.3k, 4.5M, 6.7G
static int scaled(char *out, size_t cap, double v)
{
    static const char *const unit[] = {"", "k", "M", "G", "T"};
    size_t u = 0;
    for (; v >= 9999.5 && u < 4; u++)
        v /= 1000;
    return snprintf(out, cap, u == 0 && v >= 10 ? "%.0f%s" : "%.1f%s", v, unit[u]);
}

static void count_text(char *out, size_t cap, uint64_t v)
{
    if (v < 10000)
        (void)snprintf(out, cap, "%u", (unsigned)v);
    else
        (void)scaled(out, cap, (double)v);
}

size_t progress_text(char *out, size_t cap, const struct progress *p, uint64_t done, uint64_t total,
                     double now, unsigned columns)
{
    char left[64], right[96], count[24], of[24], rate[24];
    double seconds = now - p->begun;
    double units = done > p->first ? (double)(done - p->first) : 0;
    double speed = seconds > 0 ? units / seconds : 0;
    size_t n = 0;

    count_text(count, sizeof count, done);
    count_text(of, sizeof of, total);
    int len = snprintf(left, sizeof left, total ? "%-10s %s/%s" : "%-10s %s", p->stage, count, of);
    right[0] = 0;
    if (total)
        n = (size_t)snprintf(right, sizeof right, " %3.0f%%", 100.0 * (double)done / (double)total);
    if (speed > 0) {
        (void)scaled(rate, sizeof rate, speed);
        n += (size_t)snprintf(right + n, sizeof right - n, " %s/s", rate);
    }
    if (speed > 0 && total > done) {
        double eta = (double)(total - done) / speed + 0.5;
        unsigned s = eta < 359999 ? (unsigned)eta : 359999;
        if (s >= 3600)
            n += (size_t)snprintf(right + n, sizeof right - n, " ETA %u:%02u:%02u", s / 3600,
                                  s / 60 % 60, s % 60);
        else
            n += (size_t)snprintf(right + n, sizeof right - n, " ETA %u:%02u", s / 60, s % 60);
    }
    char bar[64] = "";
    size_t used = (size_t)len + n + 5; // blanks, brackets, and the last column stays free
    if (columns > used + 4 && total) {
        size_t width = columns - used;
        if (width > 40)
            width = 40;
        double share = done < total ? (double)done / (double)total : 1;
        size_t full = (size_t)(share * (double)width);
        bar[0] = ' ';
        bar[1] = '[';
        for (size_t i = 0; i < width; i++)
            bar[2 + i] = i < full ? '=' : i == full ? '>' : ' ';
        memcpy(bar + 2 + width, "]", 2);
    }
    int all = snprintf(out, cap, "%s%s%s", left, bar, right);
    size_t room = columns > 0 && columns < cap ? columns - 1 : cap - 1;
    n = (size_t)all < room ? (size_t)all : room;
    out[n] = 0;
    return n;
}

static void print(struct progress *p, uint64_t done, uint64_t total, double now)
{
    char text[256], time[32];
    switch (p->style) {
    case PROGRESS_BAR:
        (void)progress_text(text, sizeof text, p, done, total, now, progress_columns());
        fprintf(stderr, "\r%s\x1b[K", text);
        p->drawn = true;
        break;
    case PROGRESS_LINES:
        (void)progress_text(text, sizeof text, p, done, total, now, 0);
        fprintf(stderr, "%s\n", text);
        break;
    case PROGRESS_JSON:
        clock_utc(time);
        fprintf(stderr,
                "{\"time\":\"%s\",\"level\":\"info\",\"event\":\"progress\",\"stage\":\"%s\","
                "\"done\":%llu,\"total\":%llu,\"elapsed_ms\":%.0f}\n",
                time, p->stage, (unsigned long long)done, (unsigned long long)total,
                1e3 * (now - p->begun));
        break;
    case PROGRESS_NONE:
        return;
    }
    (void)fflush(stderr);
    p->shown = now;
}

void progress_feed(struct progress *p, const char *stage, uint64_t done, uint64_t total)
{
    if (p->style == PROGRESS_NONE)
        return;
    double now = clock_seconds();
    bool begins = strcmp(p->stage, stage) != 0 || done < p->last;
    bool ends = total > 0 && done >= total;
    if (ends && !begins && done == p->last)
        return;
    if (begins) {
        (void)snprintf(p->stage, sizeof p->stage, "%s", stage);
        p->begun = now;
        p->shown = 0;
        p->first = done;
    }
    p->last = done;
    bool due;
    if (p->style == PROGRESS_BAR)
        due = begins || ends || now - p->shown >= BAR_EVERY;
    else if (p->eager)
        due = begins || ends || now - p->shown >= 1.0;
    else
        due = now - p->begun >= LINES_AFTER && (now - p->shown >= LINES_EVERY || ends);
    if (due)
        print(p, done, total, now);
}

void progress_clear(struct progress *p)
{
    if (!p->drawn)
        return;
    fputs("\r\x1b[K", stderr);
    (void)fflush(stderr);
    p->drawn = false;
}

// SPDX-License-Identifier: MIT
// Progress of long work: a bar on a terminal, plain lines elsewhere, JSON lines with --log-json.
#ifndef IV_APPS_PROGRESS_H
#define IV_APPS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum progress_style { PROGRESS_NONE, PROGRESS_BAR, PROGRESS_LINES, PROGRESS_JSON };

// Zero, set style and eager, then feed.
struct progress {
    enum progress_style style;
    bool eager; // lines: also the first and last of a stage, however short it is
    char stage[24];
    double begun, shown;  // seconds, monotonic; shown = last time something was printed, 0 = never
    uint64_t first, last; // units done when the stage was first heard of, and in the last report
    bool drawn;           // a bar stands on the terminal's current line
};

// One report of the library; prints to standard error when it is time to.
void progress_feed(struct progress *p, const char *stage, uint64_t done, uint64_t total);
// Width of the terminal that standard error is; 80 when it is none.
unsigned progress_columns(void);
// Takes the bar away, so that something else can be written.
void progress_clear(struct progress *p);

// Text of one report: "vision 2/3 67% 1.2/s ETA 0:08". With columns > 0 a bar fills the line to at
// most columns - 1 characters; otherwise there is none. now in seconds. Returns the length.
size_t progress_text(char *out, size_t cap, const struct progress *p, uint64_t done, uint64_t total,
                     double now, unsigned columns);

#endif

// SPDX-License-Identifier: MIT
// Progress of a download: a bar for each file under way and one for all on a terminal; elsewhere the total
// as any other stage.
#ifndef IV_APPS_PULLBARS_H
#define IV_APPS_PULLBARS_H

#include "console.h"

struct pull_pace {
    double begun; // seconds; 0 = not seen under way
    uint64_t first;
};

// Zero, set con, show, then end.
struct pull_bars {
    struct console *con;
    struct pull_pace *pace; // [n_pace] of each file
    size_t n_pace;
    struct pull_pace total;
    unsigned drawn; // lines on the terminal now
};

void pull_bars_show(struct pull_bars *b, const struct iv_hub_file *file, size_t n);
// Takes the bars away, so that something else can be written.
void pull_bars_clear(struct pull_bars *b);
void pull_bars_end(struct pull_bars *b);

#endif

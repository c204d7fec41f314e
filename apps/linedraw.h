// SPDX-License-Identifier: MIT
// Draws the line that is being edited: several rows, characters of any width, the cursor.
#ifndef IV_APPS_LINEDRAW_H
#define IV_APPS_LINEDRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <wchar.h>

// Set screen and prompt, zero the rest; linedraw_free at the end. The locale in force has UTF-8.
struct linedraw {
    FILE *screen;
    const char *prompt; // ASCII
    size_t columns, height;
    size_t row, column; // of the cursor, from the first row that is drawn
    wchar_t *text;      // what stands there
    size_t n, cap, cursor;
    size_t end_row; // of the text, and whether it is all visible
    bool whole, drawn;
};

// Shows n characters with the cursor before character `cursor`. Writes nothing when that is what
// stands there.
void linedraw_show(struct linedraw *d, const wchar_t *text, size_t n, size_t cursor);
// Puts the cursor below the text; what is shown next begins at the left, on a new row.
void linedraw_leave(struct linedraw *d);
// What stands there is forgotten: something else was written, the cursor is at the left.
void linedraw_forget(struct linedraw *d);
// The terminal changed its size: what stands there was moved about by it.
void linedraw_resized(struct linedraw *d);
void linedraw_free(struct linedraw *d);

#endif

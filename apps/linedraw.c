// SPDX-License-Identifier: MIT
// The picture of an edited line.
//
//   newline        begins a row         tab            blanks to the next multiple of 8
//   controls       ^X                   unprintable, or turning the direction of text: U+FFFD
//
// Why not libedit's own drawing: it counts the two cells of a wide character one by one, and where
// only the first of them changed, the cursor ends up beside the text it edits.
//
// Rows are ended by us and not by the terminal's margin, so that the cursor is where we think it
// is. A text that has more rows than the terminal is shown in part, around the cursor.
//
// Easy to get wrong: after the last column of a row terminals differ in where the cursor is, until a
// carriage return; a wide character does not fit in one remaining cell; what is appended at the end
// can be written by itself, which is what makes typing quiet.

#define _XOPEN_SOURCE 700 // wcwidth

#include "linedraw.h"

#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "heap.h"
#include "wide.h"

enum { TAB = 8 };

// Where a character goes, and what it looks like.
struct cell {
    size_t width;
    char look[8]; // bytes
};

static void look_of(wchar_t c, size_t column, struct cell *out)
{
    int width = wcwidth(c);
    memset(out, 0, sizeof *out);
    if (c == '\t') {
        out->width = TAB - column % TAB; // blanks, written by put
    } else if (c < 0x20 || c == 0x7f) {
        out->width = 2;
        out->look[0] = '^';
        out->look[1] = (char)(c ^ 0x40);
    } else if (width < 0 || wide_steers(c)) {
        out->width = 1;
        memcpy(out->look, "\xef\xbf\xbd", 3);
    } else {
        out->width = (size_t)width;
        (void)wide_encode(out->look, c);
    }
}

// The pen: writes only rows [top, bottom).
struct pen {
    struct linedraw *d;
    size_t row, column, top, bottom;
};

static bool visible(const struct pen *p)
{
    return p->row >= p->top && p->row < p->bottom;
}

static void next_row(struct pen *p)
{
    if (visible(p) && p->column < p->d->columns)
        fputs("\033[K", p->d->screen); // behind the last column it would erase that one
    if (visible(p) && p->row + 1 < p->bottom)
        fputs("\r\n", p->d->screen);
    p->row++;
    p->column = 0;
}

static void put(struct pen *p, wchar_t c)
{
    struct cell cell;
    if (c == '\n') {
        next_row(p);
        return;
    }
    look_of(c, p->column, &cell);
    if (c == '\t' && p->column + cell.width > p->d->columns)
        cell.width = p->d->columns - p->column;
    if (p->column + cell.width > p->d->columns)
        next_row(p);
    if (visible(p)) {
        if (c == '\t')
            fprintf(p->d->screen, "%*s", (int)cell.width, "");
        else
            fputs(cell.look, p->d->screen);
    }
    p->column += cell.width;
    if (p->column >= p->d->columns)
        next_row(p);
}

static void measure(struct linedraw *d)
{
    struct winsize w;
    d->columns = 80;
    d->height = 24;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0) {
        d->columns = w.ws_col < 2 ? 2 : w.ws_col; // a wide character needs two
        d->height = w.ws_row < 2 ? 2 : w.ws_row;
    }
}

// Writes the text from where the pen stands; *at gets the pen before character `cursor`.
static void write_text(struct pen *p, const wchar_t *text, size_t n, size_t cursor, struct pen *at)
{
    *at = *p;
    for (size_t i = 0; i < n; i++) {
        if (i == cursor)
            *at = *p;
        put(p, text[i]);
    }
    if (cursor >= n)
        *at = *p;
}

static void write_all(struct pen *p, const wchar_t *text, size_t n, size_t cursor, struct pen *at)
{
    for (const char *c = p->d->prompt; *c; c++)
        put(p, (unsigned char)*c);
    write_text(p, text, n, cursor, at);
}

static bool keep(struct linedraw *d, const wchar_t *text, size_t n, size_t cursor)
{
    if (n > d->cap) {
        wchar_t *grown = heap_realloc(d->text, n + n / 2, sizeof *grown);
        if (!grown) {
            d->drawn = false;
            d->n = 0;
            return false;
        }
        d->text = grown;
        d->cap = n + n / 2;
    }
    if (n > 0)
        memcpy(d->text, text, n * sizeof *text);
    d->n = n;
    d->cursor = cursor;
    return true;
}

// Only characters were added at the end, and they fit in the row. A combining character belongs to
// the cell before it, where it is written as any other.
static bool append(struct linedraw *d, const wchar_t *text, size_t n, size_t cursor)
{
    if (!d->drawn || !d->whole || d->cursor != d->n || cursor != n || n <= d->n ||
        (d->n > 0 && wmemcmp(d->text, text, d->n) != 0))
        return false;
    size_t column = d->column;
    for (size_t i = d->n; i < n; i++) {
        struct cell cell;
        if (text[i] == '\n' || text[i] == '\t')
            return false;
        look_of(text[i], column, &cell);
        column += cell.width;
    }
    if (column >= d->columns)
        return false;
    struct pen p = {.d = d, .row = d->row, .column = d->column, .bottom = SIZE_MAX}, at;
    write_text(&p, text + d->n, n - d->n, n - d->n, &at);
    d->column = p.column;
    return keep(d, text, n, cursor) || true;
}

static void to_first_row(struct linedraw *d)
{
    fputc('\r', d->screen);
    if (d->row > 0)
        fprintf(d->screen, "\033[%zuA", d->row);
    d->row = d->column = 0;
}

void linedraw_show(struct linedraw *d, const wchar_t *text, size_t n, size_t cursor)
{
    if (d->drawn && n == d->n && cursor == d->cursor && (n == 0 || wmemcmp(text, d->text, n) == 0))
        return;
    if (append(d, text, n, cursor)) {
        (void)fflush(d->screen);
        return;
    }
    measure(d);
    // a first walk without writing tells how many rows there are and where the cursor is
    struct pen walk = {.d = d}, at;
    write_all(&walk, text, n, cursor, &at);
    size_t top = 0, rows = walk.row + 1;
    if (rows > d->height)
        top = at.row < d->height ? 0 : at.row - d->height + 1;
    struct pen p = {.d = d, .top = top, .bottom = top + d->height};
    to_first_row(d);
    write_all(&p, text, n, cursor, &at);
    if (visible(&p))
        fputs("\033[J", d->screen);
    size_t last = p.row < p.bottom ? p.row : p.bottom - 1;
    if (at.row != p.row || at.column != p.column) {
        fputc('\r', d->screen);
        if (last > at.row)
            fprintf(d->screen, "\033[%zuA", last - at.row);
        if (at.column > 0)
            fprintf(d->screen, "\033[%zuC", at.column);
    }
    d->row = at.row - top;
    d->column = at.column;
    d->end_row = last - top;
    d->whole = rows <= d->height;
    d->drawn = true;
    (void)keep(d, text, n, cursor);
    (void)fflush(d->screen);
}

void linedraw_leave(struct linedraw *d)
{
    if (d->drawn && d->end_row > d->row)
        fprintf(d->screen, "\033[%zuB", d->end_row - d->row);
    fputs("\r\n", d->screen);
    linedraw_forget(d);
    (void)fflush(d->screen);
}

void linedraw_forget(struct linedraw *d)
{
    d->drawn = false;
    d->row = d->column = d->end_row = 0;
}

// Rows between the first one and the cursor, of a picture for d->columns, once a terminal of fewer columns has cut
// every row anew: by what stands in it, which may be little.
static size_t rows_above(struct linedraw *d, size_t columns)
{
    struct pen p = {.d = d}, at;
    size_t n_prompt = strlen(d->prompt);
    write_all(&p, d->text, d->n, d->cursor, &at);
    size_t top = at.row - d->row, up = at.column / columns;
    p = (struct pen){.d = d};
    for (size_t i = 0; p.row < at.row; i++) {
        size_t row = p.row, column = p.column;
        wchar_t c = i < n_prompt ? (unsigned char)d->prompt[i] : d->text[i - n_prompt];
        put(&p, c);
        if (p.row == row || row < top)
            continue;
        size_t used = p.column == 0 && c != '\n' ? d->columns : column;
        up += used > columns ? (used + columns - 1) / columns : 1;
    }
    return up;
}

void linedraw_resized(struct linedraw *d)
{
    struct linedraw now = *d;
    measure(&now);
    if (d->drawn && now.columns < d->columns)
        d->row = rows_above(d, now.columns);
    d->columns = now.columns;
    d->height = now.height;
    d->drawn = false;
}

void linedraw_free(struct linedraw *d)
{
    heap_free(d->text);
    d->text = NULL;
    d->cap = d->n = 0;
}

// SPDX-License-Identifier: MIT
// The line editor of the interactive conversation.
//
//   libedit          keys, the line, history, incremental search (Ctrl-R), ~/.editrc
//   linedraw         what is seen: libedit draws into nothing
//   read_char        bytes of the terminal -> code points; draws, hears signals while it waits
//   paste            text between ESC[200~ and ESC[201~ enters the line as it is, newlines included
//   Tab              asks the owner for candidates, completes what they share or lists them
//
// Bytes are read one by one, so that what was typed ahead stays with the terminal: for whoever reads
// after us, and for Ctrl-C to throw away.
//
// Easy to get wrong: libedit asks the C library how wide a character is, and that needs a locale
// with UTF-8 (only its LC_CTYPE, only in this thread: numbers keep their point); a signal between
// the look at its flag and the wait for a key would be missed without signals_wake_fd; Ctrl-Z must
// give the terminal back before the program stops; characters of a paste are text, so a Tab or an
// escape sequence among them must not act.

#include "editor.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "candidates.h"
#include "heap.h"
#include "linedraw.h"
#include "signals.h"
#include "wide.h"

enum { CHARACTER = 4, LISTED = 120, COLUMNS = 80, HELD = 8, ESCAPE_MS = 25 };

#define PASTE_ENDS L"\033[201~"
// What libedit reads instead of the begin of a paste: a control that is never let through otherwise.
#define PASTE_KEY L"\x9e"
static const char paste_begins[] = "\033[200~";

struct editor {
    struct editor_options o;
    EditLine *el;
    HistoryW *history;
    FILE *screen;  // standard error, buffered
    FILE *nothing; // where libedit draws
    struct linedraw draw;
    locale_t locale;
    char in[HELD]; // the n bytes of a character, or of the begin of a paste, that are there
    size_t n;
    bool ended;
    char *line; // what editor_line returned last
};

static struct editor *owner(EditLine *el)
{
    void *ed = NULL;
    (void)el_wget(el, EL_CLIENTDATA, &ed);
    return ed;
}

static void bracket_pastes(struct editor *ed, bool on)
{
    fputs(on ? "\033[?2004h" : "\033[?2004l", ed->screen);
    (void)fflush(ed->screen);
}

// Ctrl-Z: the terminal as it was, then stop; returns when the shell goes on.
static void suspend(struct editor *ed)
{
    linedraw_leave(&ed->draw);
    bracket_pastes(ed, false);
    (void)el_wset(ed->el, EL_PREP_TERM, 0);
    signals_stop_here();
    (void)el_wset(ed->el, EL_PREP_TERM, 1);
    bracket_pastes(ed, true);
}

static void draw(struct editor *ed)
{
    const LineInfoW *info = el_wline(ed->el);
    linedraw_show(&ed->draw, info->buffer, (size_t)(info->lastchar - info->buffer),
                  (size_t)(info->cursor - info->buffer));
}

// One more byte into ed->in. 1, 0 at the end, -1 when a signal wants to be heard.
static int fill(struct editor *ed)
{
    struct pollfd fd[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = signals_wake_fd(), .events = POLLIN}};
    for (;;) {
        signals_wake_drain();
        if (signals_caught()) {
            errno = EINTR;
            return -1;
        }
        if (signals_take_resized())
            linedraw_resized(&ed->draw);
        if (signals_take_suspended())
            suspend(ed);
        if (poll(fd, 1, 0) == 0) // what is typed faster than drawn is drawn once
            draw(ed);
        signals_terminal_changing(false);
        int ready = poll(fd, 2, -1), why = errno;
        signals_terminal_changing(true);
        if (ready < 0) {
            if (why != EINTR)
                return 0;
            continue;
        }
        if (!fd[0].revents)
            continue;
        ssize_t got = read(STDIN_FILENO, ed->in + ed->n, 1);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return 0;
        ed->n++;
        return 1;
    }
}

// With an ESC in front: 1 = a paste begins, its mark is taken; 0 = something else, -1 with errno. Not left
// to libedit's tables of keys, since in vi's ESC is a key of its own.
static int paste_mark(struct editor *ed)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    size_t whole = sizeof paste_begins - 1;
    while (ed->n < whole && memcmp(ed->in, paste_begins, ed->n) == 0) {
        if (poll(&fd, 1, ESCAPE_MS) <= 0)
            return 0; // the key itself
        int rc = fill(ed);
        if (rc <= 0) {
            ed->ended |= rc == 0;
            return rc;
        }
    }
    if (ed->n < whole || memcmp(ed->in, paste_begins, whole) != 0)
        return 0;
    ed->n = 0;
    return 1;
}

// libedit's source of characters: 1, 0 at the end, -1 with errno.
static int read_char(EditLine *el, wchar_t *out)
{
    struct editor *ed = owner(el);
    size_t used = 0;
    for (;;) {
        if (ed->n > 0 && ed->in[0] == '\033') {
            int rc = paste_mark(ed);
            if (rc < 0)
                return rc;
            if (rc > 0) {
                *out = PASTE_KEY[0];
                return 1;
            }
        }
        if (ed->n > 0) {
            *out = wide_decode(ed->in, ed->n, &used);
            if (used > 0) {
                ed->n -= used;
                memmove(ed->in, ed->in + used, ed->n);
                if (*out >= 0x80 && wide_steers(*out))
                    *out = 0xfffd;
                return 1;
            }
        }
        int rc = fill(ed);
        if (rc <= 0) {
            ed->ended |= rc == 0;
            return rc;
        }
    }
}

// Text of a paste grows here.
struct pasted {
    wchar_t *c;
    size_t n, cap;
    size_t bytes, max; // in UTF-8
    bool too_long, failed;
};

static void pasted_add(struct pasted *p, wchar_t c)
{
    char utf8[CHARACTER];
    p->bytes += wide_encode(utf8, c);
    p->too_long |= p->bytes > p->max;
    if (p->too_long || p->failed)
        return;
    if (p->n + 1 >= p->cap) { // a zero follows
        size_t cap = p->cap ? 2 * p->cap : 256;
        wchar_t *grown = heap_realloc(p->c, cap, sizeof *grown);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->c = grown;
        p->cap = cap;
    }
    p->c[p->n++] = c;
    p->c[p->n] = 0;
}

// Reads until the paste ends. false = the terminal is gone or a signal came.
static bool read_paste(EditLine *el, struct pasted *p)
{
    static const wchar_t end[] = PASTE_ENDS;
    size_t matched = 0;
    wchar_t c, before = 0;
    while (end[matched]) {
        if (el_wgetc(el, &c) != 1)
            return false;
        if (c == end[matched]) {
            matched++;
            continue;
        }
        for (size_t i = 1; i < matched; i++) // the ESC itself is left out as any control
            pasted_add(p, end[i]);
        matched = 0;
        if (c == end[0]) {
            matched = 1;
        } else if (c == '\r' || (c == '\n' && before != '\r')) {
            pasted_add(p, '\n');
        } else if (c == '\t' || !wide_steers(c)) {
            pasted_add(p, c);
        }
        before = c;
    }
    return true;
}

static size_t line_bytes(EditLine *el)
{
    char utf8[CHARACTER];
    const LineInfoW *info = el_wline(el);
    size_t bytes = 0;
    for (const wchar_t *c = info->buffer; c < info->lastchar; c++)
        bytes += wide_encode(utf8, *c);
    return bytes;
}

// Says below the line why nothing was done (libedit's own bell rings where nobody hears it).
static unsigned char refuse(struct editor *ed, const char *why)
{
    linedraw_leave(&ed->draw);
    fprintf(ed->screen, "\a%s\n", why);
    (void)fflush(ed->screen);
    return CC_REFRESH;
}

static unsigned char on_paste(EditLine *el, int key)
{
    (void)key;
    struct editor *ed = owner(el);
    size_t have = line_bytes(el);
    struct pasted p = {.max = ed->o.max > have ? ed->o.max - have : 0};
    char why[160];
    unsigned char result = CC_REFRESH;
    if (!read_paste(el, &p))
        result = CC_ERROR; // the next read tells why
    while (p.n > 0 && p.c[p.n - 1] == '\n')
        p.c[--p.n] = 0;
    if (p.too_long) {
        (void)snprintf(why, sizeof why, "not pasted: %zu bytes, a line has at most %zu", p.bytes,
                       ed->o.max);
        result = refuse(ed, why);
    } else if (p.failed || (p.n > 0 && el_winsertstr(el, p.c) != 0)) {
        result = refuse(ed, "not pasted: out of memory");
    }
    heap_free(p.c);
    return result;
}

static unsigned char on_clear(EditLine *el, int key)
{
    (void)key;
    struct editor *ed = owner(el);
    fputs("\033[H\033[2J", ed->screen);
    linedraw_forget(&ed->draw);
    return CC_NORM;
}

static unsigned char on_newline(EditLine *el, int key)
{
    (void)key;
    return el_winsertstr(el, L"\n") == 0 ? CC_REFRESH : refuse(owner(el), "out of memory");
}

// The candidates below the line, in columns; the owner offers nothing that steers the terminal.
static void list(struct editor *ed, const struct candidates *c)
{
    size_t widest = 1, n = c->n < LISTED ? c->n : LISTED;
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(c->text[i]);
        widest = len > widest ? len : widest;
    }
    size_t per_row = widest + 2 < COLUMNS ? COLUMNS / (widest + 2) : 1;
    linedraw_leave(&ed->draw);
    for (size_t i = 0; i < n; i++) {
        size_t k = strlen(c->text[i]);
        fputs(c->text[i], ed->screen);
        if ((i + 1) % per_row == 0 || i + 1 == n)
            fputc('\n', ed->screen);
        else
            fprintf(ed->screen, "%*s", (int)(widest + 2 - k), "");
    }
    if (c->n > n)
        fprintf(ed->screen, "... and %zu more\n", c->n - n);
    (void)fflush(ed->screen);
}

// Types what the candidates share beyond the bytes that stand there; false = nothing to type.
static bool type_shared(EditLine *el, const struct candidates *c)
{
    size_t shared = candidates_shared(c);
    bool typed = false;
    if (shared > c->replaced) {
        wchar_t *w = wide_text(c->text[0] + c->replaced, shared - c->replaced);
        typed = w && el_winsertstr(el, w) == 0;
        heap_free(w);
    }
    if (c->n == 1 && c->after) {
        wchar_t after[2] = {(unsigned char)c->after, 0};
        typed |= el_winsertstr(el, after) == 0;
    }
    return typed;
}

static unsigned char on_tab(EditLine *el, int key)
{
    (void)key;
    struct editor *ed = owner(el);
    const LineInfoW *info = el_wline(el);
    struct candidates c = {0};
    size_t n;
    char *line = wide_bytes(info->buffer, (size_t)(info->cursor - info->buffer), &n);
    if (line && ed->o.complete)
        ed->o.complete(ed->o.user, line, n, &c);
    heap_free(line);
    candidates_sort(&c);
    if (c.n == 0 || !type_shared(el, &c)) {
        if (c.n > 1)
            list(ed, &c);
        else
            fputc('\a', ed->screen);
    }
    candidates_free(&c);
    return CC_REFRESH;
}

// The person's own ~/.editrc comes first: "bind -e" and "bind -v" in it put whole tables of keys in
// place of what is there.
static void bind_keys(EditLine *el)
{
    static const wchar_t *const keys[][2] = {
        {L"\t", L"iv-complete"},         {PASTE_KEY, L"iv-paste"},       {L"^L", L"iv-clear"},
        {L"^W", L"ed-delete-prev-word"}, {L"^R", L"em-inc-search-prev"},
    };
    // not in vi's tables, where ESC is a key of its own
    static const wchar_t *const escapes[][2] = {
        {L"\033\r", L"iv-newline"},           {L"\033\n", L"iv-newline"},
        {L"\033[3~", L"ed-delete-next-char"}, {L"\033[1~", L"ed-move-to-beg"},
        {L"\033[7~", L"ed-move-to-beg"},      {L"\033[4~", L"ed-move-to-end"},
        {L"\033[8~", L"ed-move-to-end"},      {L"\033[1;5C", L"em-next-word"},
        {L"\033[1;5D", L"ed-prev-word"},
    };
    (void)el_wset(el, EL_EDITOR, L"emacs");
    (void)el_wset(el, EL_ADDFN, L"iv-complete", L"complete the word", on_tab);
    (void)el_wset(el, EL_ADDFN, L"iv-paste", L"insert pasted text", on_paste);
    (void)el_wset(el, EL_ADDFN, L"iv-clear", L"clear the screen", on_clear);
    (void)el_wset(el, EL_ADDFN, L"iv-newline", L"insert a new line", on_newline);
    (void)el_source(el, NULL);
    const wchar_t *table = NULL;
    bool vi = el_wget(el, EL_EDITOR, &table) == 0 && table && wcscmp(table, L"vi") == 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        (void)el_wset(el, EL_BIND, keys[i][0], keys[i][1], NULL);
        if (vi)
            (void)el_wset(el, EL_BIND, L"-a", keys[i][0], keys[i][1], NULL);
    }
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes && !vi; i++)
        (void)el_wset(el, EL_BIND, escapes[i][0], escapes[i][1], NULL);
}

bool editor_possible(void)
{
    const char *term = getenv("TERM");
    return isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1 && term && *term &&
           strcmp(term, "dumb") != 0 && strcmp(term, "emacs") != 0;
}

// A locale whose characters are UTF-8; 0 = this machine has none.
static locale_t utf8_locale(void)
{
    static const char *const names[] = {"", "C.UTF-8", "C.utf8", "en_US.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        locale_t l = newlocale(LC_CTYPE_MASK, names[i], (locale_t)0);
        if (l && strcmp(nl_langinfo_l(CODESET, l), "UTF-8") == 0)
            return l;
        if (l)
            freelocale(l);
    }
    return (locale_t)0;
}

// The screen, the editor and its history; the locale is in force.
static bool build(struct editor *ed)
{
    HistEventW event;
    int fd = dup(STDERR_FILENO);
    ed->screen = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!ed->screen) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    ed->nothing = fopen("/dev/null", "w");
    if (!ed->nothing)
        return false;
    ed->draw = (struct linedraw){.screen = ed->screen, .prompt = ed->o.prompt};
    ed->el = el_init_fd("ivchat", stdin, ed->nothing, ed->nothing, STDIN_FILENO, STDERR_FILENO,
                        STDERR_FILENO);
    ed->history = history_winit();
    if (!ed->el || !ed->history)
        return false;
    (void)history_w(ed->history, &event, H_SETSIZE, (int)ed->o.history);
    (void)history_w(ed->history, &event, H_SETUNIQUE, 1);
    (void)el_wset(ed->el, EL_CLIENTDATA, ed);
    (void)el_wset(ed->el, EL_SIGNAL, 0);
    (void)el_wset(ed->el, EL_HIST, history_w, ed->history);
    (void)el_wset(ed->el, EL_GETCFN, read_char);
    bind_keys(ed->el);
    return true;
}

struct editor *editor_open(const struct editor_options *o)
{
    struct editor *ed = heap_calloc(1, sizeof *ed);
    if (!ed)
        return NULL;
    ed->o = *o;
    ed->locale = utf8_locale();
    locale_t before = ed->locale ? uselocale(ed->locale) : (locale_t)0;
    bool good = ed->locale && build(ed);
    if (ed->locale)
        (void)uselocale(before);
    if (!good) {
        editor_close(ed);
        return NULL;
    }
    return ed;
}

// Why libedit came back without a line.
static enum editor_result without_line(struct editor *ed)
{
    const LineInfoW *info = el_wline(ed->el);
    bool text = info->lastchar > info->buffer;
    int signo = signals_caught();
    if (signo == SIGINT) {
        size_t n = (size_t)(info->lastchar - info->buffer);
        linedraw_show(&ed->draw, info->buffer, n, n);
        fputs("^C", ed->screen);
    }
    linedraw_leave(&ed->draw);
    if (!signo)
        return EDITOR_END;
    ed->n = 0;
    if (signo != SIGINT || !text)
        return EDITOR_STOPPED;
    signals_forget();
    return EDITOR_CLEARED;
}

static enum editor_result take_line(struct editor *ed, const wchar_t *w, size_t n,
                                    const char **line, size_t *len)
{
    while (n > 0 && (w[n - 1] == '\n' || w[n - 1] == '\r'))
        n--;
    heap_free(ed->line);
    ed->line = wide_bytes(w, n, len);
    if (!ed->line)
        return EDITOR_FAILED;
    if (*len > ed->o.max)
        return EDITOR_TOO_LONG;
    size_t k = 0; // quoted control characters (Ctrl-V) are left out
    for (size_t i = 0; i < *len; i++) {
        unsigned char b = (unsigned char)ed->line[i];
        if ((b >= 0x20 && b != 0x7f) || b == '\n' || b == '\t')
            ed->line[k++] = ed->line[i];
    }
    ed->line[k] = 0;
    *len = k;
    *line = ed->line;
    return EDITOR_LINE;
}

enum editor_result editor_line(struct editor *ed, const char **line, size_t *n)
{
    enum editor_result result;
    int count = 0;
    *line = "";
    *n = 0;
    if (ed->ended)
        return EDITOR_END;
    locale_t before = uselocale(ed->locale);
    signals_terminal(true);
    bracket_pastes(ed, true);
    const wchar_t *w = el_wgets(ed->el, &count);
    bracket_pastes(ed, false);
    signals_terminal(false);
    if (w && count > 0) {
        size_t shown = (size_t)count - (w[count - 1] == '\n');
        linedraw_show(&ed->draw, w, shown, shown);
        linedraw_leave(&ed->draw);
        result = take_line(ed, w, (size_t)count, line, n);
    } else {
        result = without_line(ed);
    }
    (void)fflush(ed->screen);
    (void)uselocale(before);
    return result;
}

bool editor_remember(struct editor *ed, const char *line, size_t n)
{
    HistEventW event;
    wchar_t *w = wide_text(line, n);
    bool good = w && history_w(ed->history, &event, H_ENTER, w) >= 0;
    heap_free(w);
    return good;
}

void editor_close(struct editor *ed)
{
    if (!ed)
        return;
    if (ed->history)
        history_wend(ed->history);
    if (ed->el)
        el_end(ed->el);
    if (ed->nothing)
        (void)fclose(ed->nothing);
    if (ed->screen)
        (void)fclose(ed->screen);
    linedraw_free(&ed->draw);
    if (ed->locale)
        freelocale(ed->locale);
    heap_free(ed->line);
    heap_free(ed);
}

void editor_version(char out[32])
{
    (void)snprintf(out, 32, "libedit %d.%d", LIBEDIT_MAJOR, LIBEDIT_MINOR);
}

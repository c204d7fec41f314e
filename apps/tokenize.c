// SPDX-License-Identifier: MIT
// `ivchat tokenize`: JSON lines of text to JSON lines of ids, or back with --decode.
//
//   "hello world"  ->  [1,7080,29477,2294]        one output line for each input line, in order
//
// A line that is not what it should be ends the work with its number and exit code 1; the lines
// before it are answered.
//
// Easy to get wrong: an empty line is an error and not skipped, or the two sides lose step; a
// text may hold NUL ("\u0000"); answers are flushed whenever the next line is not there yet, so
// that another program can converse with this one.

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"
#include "jsontext.h"
#include "linereader.h"
#include "savefile.h"
#include "work.h"

enum { LINE_MAX_BYTES = 64 << 20 };

struct tokenize {
    struct work work;
    struct linereader lines;
    enum iv_tokenizer kind;
};

static void flush(void *user)
{
    struct tokenize *t = user;
    (void)console_flush(t->work.con);
}

static int bad_line(struct tokenize *t, int code, const char *why)
{
    return app_error(&t->work.error, code, "standard input, line %zu: %s", t->lines.number, why);
}

static int put(struct tokenize *t, const char *text, size_t n)
{
    if (console_write(t->work.con, text, n))
        return IV_OK;
    return app_error(&t->work.error, IV_ERR_FAIL, "standard output is closed");
}

// A refusal of the library that is about the line and not about the machine.
static int library_failed(struct tokenize *t, int rc)
{
    char why[sizeof t->work.error.message];
    memcpy(why, t->work.error.message, sizeof why);
    return bad_line(t, rc == IV_ERR_LIMIT || rc == IV_ERR_ABORT ? rc : IV_ERR_FAIL, why);
}

static int encode(struct tokenize *t, const char *line, size_t n)
{
    char why[160], number[16];
    char *text;
    size_t len, n_id;
    int32_t *ids;
    if (jsontext_parse_text(line, n, &text, &len, why) != 0)
        return bad_line(t, IV_ERR_FAIL, why);
    int rc = iv_tokenize(t->work.engine, t->kind, text, len, t->work.s->allow_special, &ids, &n_id,
                         &t->work.error);
    heap_free(text);
    if (rc != IV_OK)
        return library_failed(t, rc);
    rc = put(t, "[", 1);
    for (size_t i = 0; i < n_id && rc == IV_OK; i++) {
        int m = snprintf(number, sizeof number, "%s%d", i ? "," : "", (int)ids[i]);
        rc = put(t, number, (size_t)m);
    }
    iv_free(ids);
    return rc == IV_OK ? put(t, "]\n", 2) : rc;
}

static int decode(struct tokenize *t, const char *line, size_t n)
{
    char why[160];
    char *text;
    size_t len, n_id;
    int32_t *ids;
    if (jsontext_parse_ids(line, n, &ids, &n_id, why) != 0)
        return bad_line(t, IV_ERR_FAIL, why);
    int rc = iv_detokenize(t->work.engine, t->kind, ids, n_id, &text, &len, &t->work.error);
    heap_free(ids);
    if (rc != IV_OK)
        return library_failed(t, rc);
    char *quoted = jsontext_quote(text, len);
    iv_free(text);
    if (!quoted)
        return bad_line(t, IV_ERR_LIMIT, "out of memory");
    rc = put(t, quoted, strlen(quoted));
    heap_free(quoted);
    return rc == IV_OK ? put(t, "\n", 1) : rc;
}

static int every_line(struct tokenize *t)
{
    for (;;) {
        char *line;
        size_t n;
        switch (linereader_next(&t->lines, &line, &n)) {
        case LINE_END:
            return IV_OK;
        case LINE_STOPPED:
            return app_error(&t->work.error, IV_ERR_ABORT, "stopped");
        case LINE_FAILED:
            return app_error(&t->work.error, errno == EFBIG ? IV_ERR_LIMIT : IV_ERR_FAIL,
                             "standard input, line %zu: %s", t->lines.number + 1,
                             errno == EFBIG ? "longer than 64 MiB" : strerror(errno));
        case LINE_OK:
            break;
        }
        if (n == 0)
            return bad_line(t, IV_ERR_FAIL, "is empty");
        int rc = t->work.s->decode ? decode(t, line, n) : encode(t, line, n);
        if (rc != IV_OK)
            return rc;
    }
}

int tokenize_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct tokenize t = {
        .work = {.verb = verb, .s = s, .con = con},
        .lines = {.fd = STDIN_FILENO, .max = LINE_MAX_BYTES, .before_wait = flush},
        .kind = strcmp(s->kind, "bert") == 0 ? IV_TOKENIZER_BERT : IV_TOKENIZER_LM,
    };
    t.lines.user = &t;
    int rc = work_check(&t.work);
    if (rc == IV_OK)
        rc = work_open(&t.work, true);
    if (rc == IV_OK)
        rc = every_line(&t);
    int exit_code = rc == IV_OK ? 0 : work_fail(&t.work, rc);
    work_close(&t.work);
    linereader_free(&t.lines);
    return exit_code;
}

// SPDX-License-Identifier: MIT
// What --help prints: the list of verbs, and for a verb its options by group with defaults and
// ranges, the rule for environment twins, and examples.
// The manual pages say the same, from the same texts.

#include "usage.h"

#include <string.h>

#include "option_words.h"

const char usage_program_summary[] = "ask questions about videos and images with the "
                                     "InternVideo2-Chat models";
const char usage_twins[] = "Every option has an environment twin, --num-frames for example "
                           "IVCHAT_NUM_FRAMES; the option wins.\nFlags: 1 or 0.\n";
// clang-format off
const char *const usage_exit_codes[][2] = {
    {"0", "ok"}, {"1", "other failure"}, {"2", "usage"}, {"3", "model"}, {"4", "input media"},
    {"5", "out of memory or over a stated limit"}, {"6", "network"},
    {"7", "some items of a batch failed"}, {"130", "stopped by SIGINT"},
    {"143", "stopped by SIGTERM"}, {NULL, NULL},
};
const char *const usage_variables[][2] = {
    {"NO_COLOR", "set and not empty: no colours"},
    {"TERM", "dumb: no bars, no line editing, no escape codes"},
    {"XDG_STATE_HOME", "folder of ivchat/history, the lines typed in conversations; without it ~/.local/state"},
    {"EDITRC", "key bindings of the line editor, see editrc(5); without it ~/.editrc"},
    {NULL, NULL},
};
// clang-format on

enum { WIDTH = 88, COLUMN = 30 };

// Prints text from column `at`, broken between words at WIDTH, continued at COLUMN.
static void wrapped(FILE *out, const char *text, size_t at)
{
    while (*text) {
        size_t n = strcspn(text, " ");
        if (at > COLUMN && at + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", COLUMN, "");
            at = COLUMN;
        } else if (at > COLUMN) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", (int)n, text);
        at += n;
        text += n;
        while (*text == ' ')
            text++;
    }
    fputc('\n', out);
}

// Prints a list of values from column `at`, broken behind a '|' at WIDTH, continued at `begin`; returns its end's column.
static size_t values(FILE *out, const char *text, size_t at, size_t begin)
{
    while (*text) {
        size_t n = strcspn(text, "|");
        n += text[n] == '|';
        if (at > begin && at + n > WIDTH) {
            fprintf(out, "\n%*s", (int)begin, "");
            at = begin;
        }
        fprintf(out, "%.*s", (int)n, text);
        at += n;
        text += n;
    }
    return at;
}

static void option_line(FILE *out, const struct option *o)
{
    char right[400];
    char letter[8] = "    ";

    if (o->letter)
        (void)snprintf(letter, sizeof letter, "-%c, ", o->letter);
    int n = o->type == OPTION_OPERAND ? fprintf(out, "  ")
                                      : fprintf(out, "  %s--%s%s%s", letter, option_negation(o),
                                                o->name, o->value ? " " : "");
    size_t at = n > 0 ? (size_t)n : 0;
    if (o->value)
        at = values(out, o->value, at, at);

    option_text(o, right, sizeof right);
    if (at >= COLUMN - 1)
        fprintf(out, "\n%*s", COLUMN, "");
    else
        fprintf(out, "%*s", (int)(COLUMN - at), "");
    wrapped(out, right, COLUMN);
}

void usage_verb(FILE *out, const struct verb *verb)
{
    const char *left, *help;
    fprintf(out, "Usage: ivchat %s", verb->name);
    for (size_t i = 0; verb_operand(verb, i); i++)
        fprintf(out, " %s", verb_operand(verb, i));
    fprintf(out, " [options]\n\n%c%s.\n%s\n", verb->summary[0] - 'a' + 'A', verb->summary + 1,
            verb->about);
    for (const struct option_group *const *g = verb->groups; *g; g++) {
        fprintf(out, "\n%s:\n", (*g)->title);
        for (size_t i = 0; i < (*g)->n; i++)
            option_line(out, &(*g)->option[i]);
        for (size_t i = 0; (*g)->row && (*g)->row(i, &left, &help); i++) {
            fprintf(out, "      %-*s", COLUMN - 6, left);
            wrapped(out, help, COLUMN);
        }
    }
    fprintf(out, "\n  -h, --help%*sthis text\n", COLUMN - 12, "");
    fprintf(out, "\n%s\nExamples:\n", usage_twins);
    fputs(verb->examples, out);
}

void usage_program(FILE *out)
{
    const struct verb *v;
    fprintf(out, "Usage: ivchat VERB [options]\n\n%c%s.\n\nVerbs:\n",
            usage_program_summary[0] - 'a' + 'A', usage_program_summary + 1);
    for (size_t i = 0; (v = verb_at(i)); i++)
        fprintf(out, "  %-12s%s\n", v->name, v->summary);
    fputs("\n  ivchat VERB --help         options and examples of a verb\n"
          "  ivchat --version           build, processor, libraries\n"
          "  ivchat --man [VERB]        the manual page, for man -l -\n"
          "  ivchat --completion SHELL  completions for bash, zsh or fish\n"
          "\nExit codes:\n",
          out);
    for (size_t i = 0; usage_exit_codes[i][0]; i++)
        fprintf(out, "  %-5s%s\n", usage_exit_codes[i][0], usage_exit_codes[i][1]);
}

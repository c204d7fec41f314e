// SPDX-License-Identifier: MIT
// What --help prints: the list of verbs, and for a verb its options by group with defaults and
// ranges, the rule for environment twins, and examples.
//
// Easy to get wrong: a flag that is on by default is told by its negative form ("--no-antialias"),
// since that is what people have to type.

#include "usage.h"

#include <string.h>

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

static void option_line(FILE *out, const struct option *o)
{
    char left[96], right[400];
    bool negative = o->type == OPTION_FLAG && o->initial;
    char letter[8] = "    ";

    if (o->letter)
        (void)snprintf(letter, sizeof letter, "-%c, ", o->letter);
    int n = snprintf(left, sizeof left, "  %s--%s%s%s%s", letter, negative ? "no-" : "", o->name,
                     o->value ? " " : "", o->value ? o->value : "");

    const char *dflt = o->shown ? o->shown : negative ? NULL : o->initial;
    char note[160] = "";
    if (o->type == OPTION_CHOICE)
        (void)snprintf(note, sizeof note, ": %s", o->range);
    int m = snprintf(right, sizeof right, "%s%s", o->help, note);
    if (dflt)
        m += snprintf(right + m, sizeof right - (size_t)m, " (default %s)",
                      o->shown && o->initial && strstr(o->shown, " = ") ? o->shown : dflt);
    if (o->alias)
        (void)snprintf(right + m, sizeof right - (size_t)m, "; also --%s", o->alias);

    fputs(left, out);
    if (n >= COLUMN - 1)
        fprintf(out, "\n%*s", COLUMN, "");
    else
        fprintf(out, "%*s", COLUMN - n, "");
    wrapped(out, right, COLUMN);
}

void usage_verb(FILE *out, const struct verb *verb)
{
    const char *left, *help;
    fprintf(out, "Usage: ivchat %s [options]\n\n%c%s.\n%s\n", verb->name,
            verb->summary[0] - 'a' + 'A', verb->summary + 1, verb->about);
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
    fputs("\nEvery option has an environment twin, --num-frames for example IVCHAT_NUM_FRAMES; the "
          "option wins.\nFlags: 1 or 0.\n\nExamples:\n",
          out);
    fputs(verb->examples, out);
}

void usage_program(FILE *out)
{
    const struct verb *v;
    fputs("Usage: ivchat VERB [options]\n\nAsk questions about videos and images with the "
          "InternVideo2-Chat models.\n\nVerbs:\n",
          out);
    for (size_t i = 0; (v = verb_at(i)); i++)
        fprintf(out, "  %-12s%s\n", v->name, v->summary);
    fputs(
        "\n  ivchat VERB --help    options and examples of a verb\n"
        "  ivchat --version      build, processor, libraries\n"
        "\nExit codes: 0 ok, 1 other failure, 2 usage, 3 model, 4 input media, 5 out of memory or "
        "over a\nstated limit, 6 network, 7 some items of a batch failed, 130 and 143 stopped by "
        "SIGINT and SIGTERM.\n",
        out);
}

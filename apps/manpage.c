// SPDX-License-Identifier: MIT
// `ivchat --man [VERB]`: the help as a manual page, in man(7) macros.
//
// Easy to get wrong: a dot or an apostrophe at the begin of a line is a macro; a plain hyphen may
// become a typographic one that nobody can paste into a shell.

#include "manpage.h"

#include <string.h>

#include "ivchat.h"
#include "option_words.h"
#include "usage.h"

static void roff_n(FILE *out, const char *text, size_t n, bool begins)
{
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (begins && c == '.')
            fputs("\\&", out);
        begins = c == '\n';
        switch (c) {
        case '\\':
            fputs("\\e", out);
            break;
        case '-':
            fputs("\\-", out);
            break;
        case '\'':
            fputs("\\(aq", out);
            break;
        case '`':
            fputs("\\(ga", out);
            break;
        case '^':
            fputs("\\(ha", out);
            break;
        case '~':
            fputs("\\(ti", out);
            break;
        default:
            fputc(c, out);
        }
    }
}

static void roff(FILE *out, const char *text)
{
    roff_n(out, text, strlen(text), true);
}

static void title(FILE *out, const char *verb)
{
    fputs(".\\\" made by `ivchat --man`\n.TH IVCHAT", out);
    if (verb) {
        fputs("\\-", out);
        for (; *verb; verb++)
            fputc(*verb >= 'a' && *verb <= 'z' ? *verb - 'a' + 'A' : *verb, out);
    }
    fprintf(out, " 1 \"\" \"ivchat %s\" \"User Commands\"\n", iv_version());
}

static void option_entry(FILE *out, const struct option *o)
{
    char text[400];
    bool operand = o->type == OPTION_OPERAND;
    fputs(".TP\n", out);
    if (o->letter)
        fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
    if (!operand) {
        fputs("\\fB\\-\\-", out);
        roff(out, option_negation(o));
        roff(out, o->name);
        fputs("\\fR", out);
    }
    if (o->value) {
        fputs(operand ? "\\fI" : " \\fI", out);
        roff(out, o->value);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    option_text(o, text, sizeof text);
    roff(out, text);
    fputc('\n', out);
}

static void group_entries(FILE *out, const struct option_group *g)
{
    const char *left, *help;
    fputs(".SS ", out);
    roff(out, g->title);
    fputc('\n', out);
    for (size_t i = 0; i < g->n; i++)
        option_entry(out, &g->option[i]);
    for (size_t i = 0; g->row && g->row(i, &left, &help); i++) {
        fputs(".TP\n.B ", out);
        roff(out, left);
        fputc('\n', out);
        roff(out, help);
        fputc('\n', out);
    }
}

// Lines as they are.
static void verbatim(FILE *out, const char *lines)
{
    fputs(".nf\n", out);
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        size_t blank = strspn(lines, " ");
        roff_n(out, lines + blank, n - blank, true);
        fputc('\n', out);
        lines += n + (lines[n] == '\n');
    }
    fputs(".fi\n", out);
}

static void verb_page(FILE *out, const struct verb *verb)
{
    title(out, verb->name);
    fprintf(out, ".SH NAME\nivchat\\-%s \\- ", verb->name);
    roff(out, verb->summary);
    fprintf(out, "\n.SH SYNOPSIS\n.B ivchat %s\n", verb->name);
    for (size_t i = 0; verb_operand(verb, i); i++)
        fprintf(out, ".I %s\n", verb_operand(verb, i));
    fputs("[options]\n.SH DESCRIPTION\n", out);
    roff(out, verb->about);
    fputs("\n.SH OPTIONS\n", out);
    for (const struct option_group *const *g = verb->groups; *g; g++)
        group_entries(out, *g);
    fputs(".SH ENVIRONMENT\n", out);
    roff(out, usage_twins);
    fputs(".SH EXIT STATUS\nAs of \\fBivchat\\fR(1).\n.SH EXAMPLES\n", out);
    verbatim(out, verb->examples);
    fputs(".SH SEE ALSO\n.BR ivchat (1)\n", out);
}

static void exit_entries(FILE *out)
{
    for (size_t i = 0; usage_exit_codes[i][0]; i++) {
        fprintf(out, ".TP\n.B %s\n", usage_exit_codes[i][0]);
        roff(out, usage_exit_codes[i][1]);
        fputc('\n', out);
    }
}

static void program_page(FILE *out)
{
    const struct verb *v;
    title(out, NULL);
    fputs(".SH NAME\nivchat \\- ", out);
    roff(out, usage_program_summary);
    fputs("\n.SH SYNOPSIS\n.B ivchat\n.I VERB\n[options]\n.br\n.B ivchat\n.I VERB\n.B \\-\\-help\n"
          ".br\n.B ivchat \\-\\-version\n.SH DESCRIPTION\n",
          out);
    for (size_t i = 0; (v = verb_at(i)); i++) {
        fprintf(out, ".TP\n\\fBivchat %s\\fR, see \\fBivchat\\-%s\\fR(1)\n", v->name, v->name);
        roff(out, v->summary);
        fputc('\n', out);
    }
    fputs(".PP\nAnswers and results go to standard output, everything else to standard error.\n"
          ".SH ENVIRONMENT\n",
          out);
    roff(out, usage_twins);
    for (size_t i = 0; usage_variables[i][0]; i++) {
        fprintf(out, ".TP\n.B %s\n", usage_variables[i][0]);
        roff(out, usage_variables[i][1]);
        fputc('\n', out);
    }
    fputs(".SH EXIT STATUS\n", out);
    exit_entries(out);
    fputs(".SH SEE ALSO\n", out);
    for (size_t i = 0; (v = verb_at(i)); i++)
        fprintf(out, ".BR ivchat\\-%s (1)%s\n", v->name, verb_at(i + 1) ? "," : "");
}

void manpage_write(FILE *out, const struct verb *verb)
{
    if (verb)
        verb_page(out, verb);
    else
        program_page(out);
}

// SPDX-License-Identifier: MIT
// `ivchat --completion SHELL`: verbs, options, and what their values can be: words, files, folders.
//
// Easy to get wrong: bash cuts "--variant=hd" in three words; in zsh a colon or a bracket in a
// description ends it; help texts hold apostrophes.

#include "shellscript.h"

#include <string.h>

#include "ivchat.h"
#include "option_words.h"
#include "verbs.h"

typedef void visit(FILE *out, const struct verb *verb, const struct option *o);

static void each_option(FILE *out, const struct verb *verb, visit *f)
{
    for (const struct option_group *const *g = verb->groups; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            if ((*g)->option[i].type != OPTION_OPERAND) // a name nobody can complete
                f(out, verb, &(*g)->option[i]);
        }
    }
}

// text with a backslash in front of each of the characters.
static void escaped(FILE *out, const char *text, const char *characters)
{
    for (; *text; text++) {
        if (strchr(characters, *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

// Inside '...' of a POSIX shell or zsh; brackets and colons are escaped for _arguments.
static void zsh_quoted(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (strchr("[]:\\", *text))
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
}

static void verb_names(FILE *out)
{
    const struct verb *v;
    for (size_t i = 0; (v = verb_at(i)); i++)
        fprintf(out, "%s%s", i ? " " : "", v->name);
}

// ---- bash

static void bash_name(FILE *out, const struct verb *verb, const struct option *o)
{
    (void)verb;
    fprintf(out, " --%s%s", option_negation(o), o->name);
}

static void bash_value(FILE *out, const struct verb *verb, const struct option *o)
{
    char words[200];
    enum value_kind kind = option_value_kind(o, words, sizeof words);
    if (kind == VALUE_NONE)
        return;
    fprintf(out, "        %s:--%s", verb->name, o->name);
    if (o->alias)
        fprintf(out, " | %s:--%s", verb->name, o->alias);
    if (o->letter)
        fprintf(out, " | %s:-%c", verb->name, o->letter);
    fputs(") ", out);
    switch (kind) {
    case VALUE_FILE:
        fputs("_ivchat_files -f; return ;;\n", out);
        break;
    case VALUE_FOLDER:
        fputs("_ivchat_files -d; return ;;\n", out);
        break;
    case VALUE_WORDS:
        fprintf(out, "words='%s' ;;\n", words);
        break;
    case VALUE_NONE:
    case VALUE_FREE:
        fputs("return ;;\n", out);
        break;
    }
}

static void bash(FILE *out)
{
    const struct verb *v;
    fputs("_ivchat_files()\n{\n"
          "    compopt -o filenames 2>/dev/null\n"
          "    mapfile -t COMPREPLY < <(compgen \"$1\" -- \"$cur\")\n"
          "}\n\n"
          "_ivchat()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''\n"
          "    COMPREPLY=()\n"
          "    if [ \"$cur\" = '=' ]; then\n"
          "        cur=''\n"
          "    elif [ \"$prev\" = '=' ]; then\n"
          "        prev=${COMP_WORDS[COMP_CWORD-2]}\n"
          "    fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W '",
          out);
    verb_names(out);
    fputs(" help --help --version --man --completion' -- \"$cur\"))\n"
          "        return\n"
          "    fi\n"
          "    case ${COMP_WORDS[1]}:$prev in\n"
          "        help:* | --man:*) words='",
          out);
    verb_names(out);
    fputs("' ;;\n        --completion:*) words='bash zsh fish' ;;\n", out);
    for (size_t i = 0; (v = verb_at(i)); i++)
        each_option(out, v, bash_value);
    for (size_t i = 0; (v = verb_at(i)); i++) {
        fprintf(out, "        %s:*) words='--help", v->name);
        each_option(out, v, bash_name);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "}\n"
          "complete -F _ivchat ivchat\n",
          out);
}

// ---- zsh

static void zsh_option(FILE *out, const struct verb *verb, const struct option *o)
{
    char words[200];
    enum value_kind kind = option_value_kind(o, words, sizeof words);
    const char *star = o->type == OPTION_LIST ? "*" : "", *no = option_negation(o);
    (void)verb;
    fputs(" \\\n        ", out);
    if (o->letter && *star)
        fprintf(out, "'*'{-%c+,--%s%s=}'[", o->letter, no, o->name);
    else if (o->letter)
        fprintf(out, "'(-%c --%s%s)'{-%c%s,--%s%s%s}'[", o->letter, no, o->name, o->letter,
                o->value ? "+" : "", no, o->name, o->value ? "=" : "");
    else
        fprintf(out, "'%s--%s%s%s[", star, no, o->name, o->value ? "=" : "");
    zsh_quoted(out, o->help);
    fputc(']', out);
    if (kind != VALUE_NONE) {
        fputc(':', out);
        zsh_quoted(out, o->value);
        fputc(':', out);
    }
    if (kind == VALUE_FILE)
        fputs("_files", out);
    else if (kind == VALUE_FOLDER)
        fputs("_files -/", out);
    else if (kind == VALUE_WORDS)
        fprintf(out, "(%s)", words);
    fputc('\'', out);
}

static void zsh(FILE *out)
{
    const struct verb *v;
    fputs("_ivchat()\n{\n    local -a verbs\n    verbs=(\n", out);
    for (size_t i = 0; (v = verb_at(i)); i++) {
        fprintf(out, "        '%s:", v->name);
        zsh_quoted(out, v->summary);
        fputs("'\n", out);
    }
    fputs("        'help:what a verb does'\n    )\n"
          "    if (( CURRENT == 2 )); then\n"
          "        if [[ $words[2] == -* ]]; then\n"
          "            compadd -- --help --version --man --completion\n"
          "        else\n"
          "            _describe -t verbs verb verbs\n"
          "        fi\n"
          "        return\n"
          "    fi\n"
          "    local verb=$words[2]\n"
          "    shift words\n"
          "    (( CURRENT-- ))\n"
          "    case $verb in\n"
          "    help|--man) compadd -- ",
          out);
    verb_names(out);
    fputs(" ;;\n    --completion) compadd -- bash zsh fish ;;\n", out);
    for (size_t i = 0; (v = verb_at(i)); i++) {
        fprintf(out, "    %s)\n        _arguments -s '(- *)'{-h,--help}'[options and examples]'",
                v->name);
        each_option(out, v, zsh_option);
        fputs("\n        ;;\n", out);
    }
    fputs("    esac\n}\n"
          "if [ \"$funcstack[1]\" = _ivchat ]; then\n    _ivchat \"$@\"\n"
          "else\n    compdef _ivchat ivchat\nfi\n",
          out);
}

// ---- fish

static void fish_option(FILE *out, const struct verb *verb, const struct option *o)
{
    char words[200];
    enum value_kind kind = option_value_kind(o, words, sizeof words);
    fprintf(out, "complete -c ivchat -n '__fish_seen_subcommand_from %s' -l %s%s", verb->name,
            option_negation(o), o->name);
    if (o->letter)
        fprintf(out, " -s %c", o->letter);
    if (kind == VALUE_FILE)
        fputs(" -r -F", out);
    else if (kind == VALUE_FOLDER)
        fputs(" -x -a '(__fish_complete_directories)'", out);
    else if (kind == VALUE_WORDS)
        fprintf(out, " -x -a '%s'", words);
    else if (kind == VALUE_FREE)
        fputs(" -x", out);
    fputs(" -d '", out);
    escaped(out, o->help, "\\'");
    fputs("'\n", out);
}

static void fish(FILE *out)
{
    const struct verb *v;
    fputs("complete -c ivchat -f\n", out);
    for (size_t i = 0; (v = verb_at(i)); i++) {
        fprintf(out, "complete -c ivchat -n __fish_use_subcommand -a %s -d '", v->name);
        escaped(out, v->summary, "\\'");
        fputs("'\n", out);
    }
    fputs(
        "complete -c ivchat -n __fish_use_subcommand -a help -d 'what a verb does'\n"
        "complete -c ivchat -l help -s h -d 'options and examples'\n"
        "complete -c ivchat -n __fish_use_subcommand -l version -d 'build, processor, libraries'\n"
        "complete -c ivchat -n __fish_use_subcommand -l man -d 'manual page'\n"
        "complete -c ivchat -n __fish_use_subcommand -l completion -x -a 'bash zsh fish' -d "
        "'completion script'\n"
        "complete -c ivchat -n '__fish_seen_subcommand_from help' -a '",
        out);
    verb_names(out);
    fputs("'\n", out);
    for (size_t i = 0; (v = verb_at(i)); i++)
        each_option(out, v, fish_option);
}

bool shellscript_write(FILE *out, const char *shell)
{
    static const struct {
        const char *name, *head;
        void (*write)(FILE *out);
    } shells[] = {{"bash", "", bash}, {"zsh", "#compdef ivchat\n", zsh}, {"fish", "", fish}};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(shells[i].name, shell) == 0) {
            fprintf(out, "%s# ivchat %s; made by `ivchat --completion %s`\n", shells[i].head,
                    iv_version(), shell);
            shells[i].write(out);
            return true;
        }
    }
    return false;
}

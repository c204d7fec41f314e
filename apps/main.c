// SPDX-License-Identifier: MIT
// The `ivchat` program: finds the verb, parses its options, runs it, ends with its exit code.
//
//   0 ok, 1 other failure, 2 usage, 3 model, 4 input media, 5 memory or limit, 6 network,
//   7 part of a batch, 128 + n stopped by signal n
//
// Easy to get wrong: a program started with standard output closed would get the next file it
// opens as descriptor 1 and write answers into it, so closed descriptors are filled first; --help
// anywhere wins over errors in other options.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "console.h"
#include "decodewire.h"
#include "editor.h"
#include "httpd.h"
#include "manpage.h"
#include "nearest.h"
#include "shellscript.h"
#include "signals.h"
#include "usage.h"
#include "verbs.h"

// Opens what is closed of 0, 1, 2 in the direction that cannot be used, so that reading and writing
// fail as they would have.
static bool fill_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    }
    return true;
}

// letter NULL = the option has none
static bool is_word(const char *arg, const char *name, const char *letter)
{
    return strcmp(arg, name) == 0 || (letter && strcmp(arg, letter) == 0);
}

// Whether an argument before "--" is one of the two spellings.
static bool asks_for(int argc, char *const *argv, const char *name, const char *letter)
{
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (is_word(argv[i], name, letter))
            return true;
    }
    return false;
}

static int print_help(struct console *con, const struct verb *verb)
{
    if (verb)
        usage_verb(stdout, verb);
    else
        usage_program(stdout);
    return console_close(con, 0);
}

// --man [VERB]
static int print_man(struct console *con, const char *name)
{
    const struct verb *verb = name ? verb_find(name) : NULL;
    if (name && !verb) {
        console_error(con, "--man: no verb is called \"%.60s\"", name);
        return 2;
    }
    manpage_write(stdout, verb);
    return console_close(con, 0);
}

// --completion SHELL
static int print_completion(struct console *con, const char *shell)
{
    if (!shell || !shellscript_write(stdout, shell)) {
        console_error(con, "--completion: expected bash, zsh or fish, got \"%.60s\"",
                      shell ? shell : "");
        return 2;
    }
    return console_close(con, 0);
}

static int unknown_verb(struct console *con, const char *name)
{
    struct nearest near = {.word = name};
    const struct verb *v;
    for (size_t i = 0; (v = verb_at(i)); i++)
        nearest_offer(&near, v->name);
    const char *best = nearest_word(&near);
    console_error(con, "unknown %s \"%.60s\"%s%s%s (see 'ivchat --help')",
                  name[0] == '-' ? "option" : "verb", name, best ? ", did you mean " : "",
                  best ? best : "", best ? "?" : "");
    return 2;
}

static int run_verb(struct console *con, const struct verb *verb, int argc, char *const *argv)
{
    struct settings s;
    char message[OPTION_MESSAGE];
    int exit_code = 2;
    int rc = options_parse(verb->groups, argc, argv, 2, &s, message);
    if (rc == OPTIONS_HELP || (rc != 0 && asks_for(argc, argv, "--help", "-h"))) {
        usage_verb(stdout, verb);
        exit_code = 0;
    } else if (rc == 0) {
        console_configure(con, s.verbose, s.quiet, s.log_json, s.progress);
        exit_code = verb->run(verb, &s, con);
    } else {
        console_error(con, "%s (see 'ivchat %s --help')", message, verb->name);
    }
    options_free(&s);
    return console_close(con, exit_code);
}

int main(int argc, char **argv)
{
    struct console con;
    char who[32] = "ivchat";
    if (argc > 1 && strcmp(argv[1], DECODE_VERB) == 0) // of a server, for media of strangers
        return decodechild_main(argc, argv);
    if (!fill_descriptors())
        return 1;
    signals_install();
    const char *wish = argc > 1 ? argv[1] : "";
    const struct verb *verb = verb_find(wish);
    if (verb)
        (void)snprintf(who, sizeof who, "ivchat %s", verb->name);
    // errors of the options themselves have to look right before the options are known
    const char *json = getenv("IVCHAT_LOG_JSON");
    console_open(&con, who,
                 (json && *json && !strchr("0fn", *json) && strcmp(json, "off") != 0) ||
                     asks_for(argc, argv, "--log-json", NULL));

    if (is_word(wish, "--version", "-V")) {
        (void)console_print(&con, "ivchat %s\n", iv_version());
        (void)console_write(&con, iv_build_info(), strlen(iv_build_info()));
        char editor[32];
        editor_version(editor);
        (void)console_print(&con, "line editor: %s\nserver: libmicrohttpd %s\n", editor,
                            httpd_library());
        return console_close(&con, 0);
    }
    if (is_word(wish, "--help", "-h"))
        return print_help(&con, NULL);
    if (strcmp(wish, "--man") == 0)
        return print_man(&con, argc > 2 ? argv[2] : NULL);
    if (strcmp(wish, "--completion") == 0)
        return print_completion(&con, argc > 2 ? argv[2] : NULL);
    if (strcmp(wish, "help") == 0 && argc > 2 && !verb_find(argv[2]))
        return unknown_verb(&con, argv[2]);
    if (strcmp(wish, "help") == 0)
        return print_help(&con, argc > 2 ? verb_find(argv[2]) : NULL);
    if (argc < 2) {
        usage_program(stderr);
        return 2;
    }
    if (!verb)
        return unknown_verb(&con, wish);
    return run_verb(&con, verb, argc, argv);
}

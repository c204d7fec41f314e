// SPDX-License-Identifier: MIT
// What the command line does when a signal arrives.
//
//   SIGINT SIGTERM SIGHUP  noted; the library stops within 200 ms, files in the making are removed,
//                          exit code 128 + number. The second one does not wait: _exit at once.
//   SIGPIPE                ignored: the failing write tells which stream it was.
//   SIGBUS                 a mapped weight file (or a video) was truncated under us; nothing can be
//                          computed from it any more, so one line and exit code 3.
//
// Easy to get wrong: handlers are installed without SA_RESTART, since a read that waits for a
// question must return when Ctrl-C comes; only async-signal-safe calls are made inside them; and
// a process started with SIGINT ignored (a shell's background job) must go on ignoring it.

#include "signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

static atomic_int caught; // the handler's only way to speak to the program

static void note(int signo)
{
    int none = 0;
    if (!atomic_compare_exchange_strong(&caught, &none, signo))
        _exit(128 + signo);
}

static void mapping_lost(int signo)
{
    static const char text[] = "\nivchat: a model or media file changed while it was in use\n";
    (void)signo;
    // nothing is left to do if standard error cannot be written
    ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
    (void)n;
    _exit(3);
}

static void install(int signo, void (*handler)(int))
{
    struct sigaction old;
    if (sigaction(signo, NULL, &old) != 0 || old.sa_handler == SIG_IGN)
        return;
    struct sigaction action = {.sa_handler = handler};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(signo, &action, NULL); // cannot fail: a valid signal and a valid action
}

void signals_install(void)
{
    install(SIGINT, note);
    install(SIGTERM, note);
    install(SIGHUP, note);
    install(SIGBUS, mapping_lost);
    install(SIGPIPE, SIG_IGN);
}

int signals_caught(void)
{
    return atomic_load(&caught);
}

void signals_forget(void)
{
    atomic_store(&caught, 0);
}

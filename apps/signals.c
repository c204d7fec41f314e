// SPDX-License-Identifier: MIT
// What the command line does when a signal arrives.
//
//   SIGINT SIGTERM SIGHUP  noted; the library stops within 200 ms, files in the making are removed,
//                          exit code 128 + number. The second one does not wait: _exit at once.
//   SIGPIPE SIGXFSZ        ignored: the failing write tells which stream or file it was.
//   SIGBUS                 a mapped weight file (or a video) was truncated under us; nothing can be
//                          computed from it any more, so one line and exit code 3.
//   SIGWINCH SIGTSTP       noted while a line is edited, else the system's own.
//   SIGQUIT                the system's own; while a line is edited the terminal is restored first.
//
// Easy to get wrong: handlers are installed without SA_RESTART, since a read that waits for a
// question must return when Ctrl-C comes; only async-signal-safe calls are made inside them; a process
// started with SIGINT ignored (a shell's background job) must go on ignoring it; a signal that
// arrives on another thread does not interrupt the main thread's wait, a byte in a pipe does. SIGBUS comes on
// the thread that read the file, at any moment: were the editor just about to set the modes of its own, it
// would set them after they had been restored. So the main thread says when it is changing the terminal, and
// of the threads that meet the fault one waits for that, tells and ends the process, the others stand still.

#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

// the handlers' only ways to speak to the program
static atomic_int caught;
static atomic_bool resized, suspended;
static atomic_int wake_write = -1;
static int wake_read = -1;
// the terminal's modes to go back to, while editing
static struct termios modes;
static atomic_bool editing;
// who may write to the terminal: STILL = anyone, CHANGING = the main thread, LOST = the thread that ends the
// process
enum { STILL, CHANGING, LOST };
static atomic_int terminal;
static pthread_t main_thread;

enum {
    CHANGE_MS_MAX = 2000
}; // a terminal that takes nothing (Ctrl-S) must not keep a broken process

static void wake(void)
{
    int fd = atomic_load(&wake_write), saved = errno;
    if (fd >= 0) {
        ssize_t n = write(fd, "", 1); // a full pipe wakes as well
        (void)n;
    }
    errno = saved;
}

static void restore_terminal(void)
{
    static const char plain_pastes[] = "\033[?2004l";
    if (!atomic_load(&editing))
        return;
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &modes);
    ssize_t n = write(STDERR_FILENO, plain_pastes, sizeof plain_pastes - 1);
    (void)n;
}

static void note(int signo)
{
    int none = 0;
    if (!atomic_compare_exchange_strong(&caught, &none, signo)) {
        restore_terminal();
        _exit(128 + signo);
    }
    wake();
}

static void note_terminal(int signo)
{
    atomic_store(signo == SIGWINCH ? &resized : &suspended, true);
    wake();
}

static void quit_here(int signo)
{
    restore_terminal();
    (void)signal(signo, SIG_DFL);
    (void)raise(signo); // held back until this handler returns
}

static void stand_still(void)
{
    for (;;)
        (void)pause();
}

// Returns on one thread, once.
static void take_terminal(void)
{
    bool alone = pthread_equal(pthread_self(), main_thread) != 0; // it is not changing it meanwhile
    for (int ms = 0;; ms++) {
        int now = STILL;
        if (atomic_compare_exchange_strong(&terminal, &now, LOST))
            return;
        if (now == LOST)
            stand_still();
        if ((alone || ms >= CHANGE_MS_MAX) && atomic_compare_exchange_strong(&terminal, &now, LOST))
            return;
        (void)poll(NULL, 0, 1);
    }
}

static void mapping_lost(int signo)
{
    take_terminal();
    restore_terminal();
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
    main_thread = pthread_self();
    install(SIGINT, note);
    install(SIGTERM, note);
    install(SIGHUP, note);
    install(SIGBUS, mapping_lost);
    install(SIGPIPE, SIG_IGN);
    install(SIGXFSZ, SIG_IGN);
}

int signals_caught(void)
{
    return atomic_load(&caught);
}

void signals_forget(void)
{
    atomic_store(&caught, 0);
}

void signals_wake_drain(void)
{
    char bytes[64];
    while (wake_read >= 0 && read(wake_read, bytes, sizeof bytes) > 0)
        continue;
}

bool signals_take_resized(void)
{
    return atomic_exchange(&resized, false);
}

bool signals_take_suspended(void)
{
    return atomic_exchange(&suspended, false);
}

static bool make_pipe(void)
{
    int fd[2];
    if (pipe(fd) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        (void)fcntl(fd[i], F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd[i], F_SETFL, O_NONBLOCK);
    }
    wake_read = fd[0];
    atomic_store(&wake_write, fd[1]);
    return true;
}

int signals_wake_fd(void)
{
    if (wake_read < 0)
        (void)make_pipe(); // without it a key is needed to notice a signal
    return wake_read;
}

void signals_terminal_changing(bool on)
{
    int now = on ? STILL : CHANGING;
    if (!atomic_compare_exchange_strong(&terminal, &now, on ? CHANGING : STILL) && now == LOST)
        stand_still();
}

void signals_terminal(bool on)
{
    signals_terminal_changing(true);
    if (on && tcgetattr(STDIN_FILENO, &modes) == 0)
        atomic_store(&editing, true);
    else
        atomic_store(&editing, false);
    install(SIGWINCH, on ? note_terminal : SIG_DFL);
    install(SIGTSTP, on ? note_terminal : SIG_DFL);
    install(SIGQUIT, on ? quit_here : SIG_DFL);
    if (!on)
        signals_terminal_changing(false);
}

void signals_stop_here(void)
{
    install(SIGTSTP, SIG_DFL);
    (void)raise(SIGTSTP);
    install(SIGTSTP, note_terminal);
}

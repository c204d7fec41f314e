// SPDX-License-Identifier: MIT
// Signals of the command line, turned into a flag that the library's abort callback reads.
#ifndef IV_APPS_SIGNALS_H
#define IV_APPS_SIGNALS_H

#include <stdbool.h>

// SIGINT, SIGTERM and SIGHUP are noted, a second one ends the process at once; SIGPIPE is
// ignored (a write then fails with EPIPE); SIGBUS ends the process with exit code 3. A signal
// that the parent had set to be ignored stays ignored. Once, before any thread is made.
void signals_install(void);
// Number of the first signal noted since the start or signals_forget; 0 = none. Any thread.
int signals_caught(void);
// Forgets it, so that an interactive conversation can go on after Ctrl-C stopped an answer.
void signals_forget(void);

// For the line editor, which leaves the terminal in a mode of its own while it waits for keys.
// On: the modes of standard input are remembered (and restored when a signal ends the process), and
// SIGWINCH and SIGTSTP are noted; SIGQUIT restores them too. Off: as before. Main thread.
void signals_terminal(bool on);
// While on, the terminal is taken to be changing, and a fault of another thread waits (2 s at most) before it
// restores the modes and ends the process; false = the main thread only waits for a key, true = no more.
void signals_terminal_changing(bool on);
// Readable when a signal was noted, for poll(); -1 when there is none. Drain before looking at the
// flags.
int signals_wake_fd(void);
void signals_wake_drain(void);
// Whether the terminal changed its size, or Ctrl-Z was typed, since the last call.
bool signals_take_resized(void);
bool signals_take_suspended(void);
// Stops the process as Ctrl-Z does; returns when it is continued. Only while signals_terminal is on.
void signals_stop_here(void);

#endif

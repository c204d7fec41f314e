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

#endif

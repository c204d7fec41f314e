// SPDX-License-Identifier: MIT
// Questions typed in earlier conversations, in a file of the person's own.
#ifndef IV_APPS_HISTORYFILE_H
#define IV_APPS_HISTORYFILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    HISTORY_ENTRIES = 1000,     // kept
    HISTORY_ENTRY_MAX = 8192,   // bytes of one; longer ones are not kept
    HISTORY_FILE_MAX = 4 << 20, // bytes that are read of a file, from its end
};

// Where the file is: $XDG_STATE_HOME/ivchat/history, without it $HOME/.local/state/ivchat/history.
// false = neither is an absolute path.
bool historyfile_path(char out[PATH_MAX]);
// Hands out the newest HISTORY_ENTRIES entries, oldest first; each is well-formed UTF-8 without
// control characters except newline and tab. A file that is not there has none. A file that grew is
// written anew, shorter. 0, or -1 with errno.
int historyfile_load(const char *path, void (*entry)(void *user, const char *text, size_t n),
                     void *user);
// Adds one entry, making the file (0600) and the folders above it (0700) when they are not there.
// 0, or -1 with errno.
int historyfile_add(const char *path, const char *text, size_t n);

// One line of the file, of n bytes without the newline, as an entry: its bytes, written to out, or
// 0 when the line is none.
size_t historyfile_decode(const char *line, size_t n, char out[HISTORY_ENTRY_MAX]);
// The other way: bytes written to out, newline included; 0 when the text cannot be an entry.
size_t historyfile_encode(const char *text, size_t n, char out[2 * HISTORY_ENTRY_MAX + 1]);

#endif

// SPDX-License-Identifier: MIT
// Every file below a folder.
#ifndef IV_HUB_WALK_H
#define IV_HUB_WALK_H

#include <stdbool.h>

#include "base/err.h"

enum { WALK_DEPTH = 40 };

// A name that was found. What is done to it is safest by dir and name (unlinkat, fstatat): a path could by
// then lead through a link.
struct walk_name {
    int dir; // open folder that holds it
    const char *name, *path;
    bool is_folder;
};

// Calls fn for each name below folder, a folder after what is in it; links are names like any other and are
// not entered. fn returns 0 or an error, which ends the walk. A folder that does not exist has no names.
// `follow`: folder itself may be a link; otherwise one is an error.
int walk(const char *folder, bool follow,
         int (*fn)(void *user, const struct walk_name *n, struct err *e), void *user,
         struct err *e);

#endif

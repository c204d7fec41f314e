// SPDX-License-Identifier: MIT
// Every file below a folder.
#ifndef IV_HUB_WALK_H
#define IV_HUB_WALK_H

#include <stdbool.h>

#include "base/err.h"

enum { WALK_DEPTH = 40 };

// Calls fn for each name below folder: `path` as a whole, `is_folder` after what is in it (links are not
// followed). fn returns 0 or an error, which ends the walk. A folder that does not exist has no names.
int walk(const char *folder, int (*fn)(void *user, const char *path, bool is_folder, struct err *e),
         void *user, struct err *e);

#endif

// SPDX-License-Identifier: MIT
// A large file written from front to back beside its name, then synced and renamed: the name holds the old
// file or the whole new one, whenever the process ends.
#ifndef IV_BASE_OUTFILE_H
#define IV_BASE_OUTFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

struct outfile {
    const struct hooks *hooks;
    char *path, *temporary;
    int fd;      // -1 = closed
    uint64_t at; // bytes written
};

// Opens path.part, which one process holds at a time and an interrupted one leaves behind for the next.
// After a failure of any of these call outfile_abandon; path is then as before. hooks (may be NULL): abort is
// polled. ERR_FAIL: the system's reason.
int outfile_create(struct outfile *f, const char *path, const struct hooks *hooks, struct err *e);
int outfile_add(struct outfile *f, const void *bytes, size_t n, struct err *e);
// Zeros up to the next multiple of align.
int outfile_pad(struct outfile *f, size_t align, struct err *e);
// Then there is nothing to release.
int outfile_commit(struct outfile *f, struct err *e);
// Removes what was written. A zeroed or finished one is allowed.
void outfile_abandon(struct outfile *f);

#endif

// SPDX-License-Identifier: MIT
// Syncing of files and folders.
//
// Easy to get wrong: writing back a range says nothing of the file's length or place and may not exist on a
// file system, so it only shortens the fsync that follows, and its failures are fsync's to report.
#define _GNU_SOURCE // sync_file_range
#include "base/sync.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

int sync_file(int fd, uint64_t size, const struct hooks *hooks)
{
    const unsigned wait_all =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    for (uint64_t at = 0; at < size; at += SYNC_PIECE) {
        if (hooks_abort(hooks))
            return 1;
        (void)sync_file_range(fd, (off_t)at, SYNC_PIECE, wait_all);
    }
    if (hooks_abort(hooks))
        return 1;
    return fsync(fd);
}

void sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : NULL;
    int fd = open(folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd); // not every file system can; the file itself is safe
        close(fd);
    }
    mem_free(folder);
}

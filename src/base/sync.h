// SPDX-License-Identifier: MIT
// Bytes and names that must outlive a power cut, brought to the disk.
#ifndef IV_BASE_SYNC_H
#define IV_BASE_SYNC_H

#include <stdint.h>

#include "base/log.h"

enum { SYNC_PIECE = 4 << 20 }; // bytes written back between two looks at abort

// fsync of fd, whose first `size` bytes are written back piece by piece before, so that hooks' abort (hooks may be
// NULL) is noticed. 0, -1 with errno, or 1 = stopped.
int sync_file(int fd, uint64_t size, const struct hooks *hooks);
// Makes a rename within the folder of path durable, where the file system can.
void sync_folder_of(const char *path);

#endif

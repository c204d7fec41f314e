// SPDX-License-Identifier: MIT
// How much memory there still is for this process.
#ifndef IV_BASE_MEM_ROOM_H
#define IV_BASE_MEM_ROOM_H

#include <stdint.h>

// Bytes that can be taken before the system, or a control group this process is in, runs short; what the page cache
// could give up counts as free. 0 = none, or unknown, as where memory is to come from some NUMA nodes only.
uint64_t mem_room(void);

// The same of other files. meminfo: like /proc/meminfo; proc_cgroup: like /proc/self/cgroup; root: a directory like
// /sys/fs/cgroup.
uint64_t mem_room_of(const char *meminfo, const char *proc_cgroup, const char *root);

#endif

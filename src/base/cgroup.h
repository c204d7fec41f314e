// SPDX-License-Identifier: MIT
// The control groups that a process is in, whose limits all count: its own and every one above it.
#ifndef IV_BASE_CGROUP_H
#define IV_BASE_CGROUP_H

#include <stdbool.h>

// dir: a directory that may or may not exist; v2: the names of the files in it are those of version 2.
typedef void cgroup_fn(void *user, const char *dir, bool v2);

// Calls fn for each group between that of this process and the root of the hierarchy, both included.
// proc_cgroup: a file like /proc/self/cgroup; root: a directory like /sys/fs/cgroup; controller: as version 1 names it.
void cgroup_each(const char *proc_cgroup, const char *root, const char *controller, cgroup_fn *fn,
                 void *user);

// Positive number at *s, which moves behind it; 0 for "max", -1 and rubbish.
double cgroup_number(char **s);

#endif

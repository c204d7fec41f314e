// SPDX-License-Identifier: MIT
// How many processors this process may keep busy.
#ifndef IV_BASE_CPU_COUNT_H
#define IV_BASE_CPU_COUNT_H

// The lesser of the scheduler's affinity mask and the cgroup's quota (rounded up), at least 1.
unsigned cpu_count(void);

// The smallest cgroup quota between this process's group and the root of the hierarchy, in processors;
// 0 = none. proc_cgroup: a file like /proc/self/cgroup; root: a directory like /sys/fs/cgroup.
// Versions 1 and 2; what is missing or malformed counts as no quota.
double cpu_quota(const char *proc_cgroup, const char *root);

#endif

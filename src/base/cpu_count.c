// SPDX-License-Identifier: MIT
// Processors in reach of this process: sched_getaffinity, then the CPU bandwidth quota of its cgroup
// (kernel documentation: admin-guide/cgroup-v2 "cpu.max", scheduler/sched-bwc "cpu.cfs_quota_us").
//
//   version 2   cpu.max            "QUOTA PERIOD" or "max PERIOD"
//   version 1   cpu.cfs_*_us       one number a file, -1 = none
#define _GNU_SOURCE // sched_getaffinity
#include "base/cpu_count.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/first_line.h"
#include "base/mem.h"

static unsigned affinity_count(void)
{
    // the kernel refuses a set smaller than its own, whose size it does not tell
    for (size_t n = 1024; n <= (size_t)1 << 20; n *= 4) {
        size_t bytes = CPU_ALLOC_SIZE(n);
        cpu_set_t *set = mem_calloc(bytes, 1);
        if (!set)
            return 1;
        int rc = sched_getaffinity(0, bytes, set);
        int why = errno;
        int count = rc == 0 ? CPU_COUNT_S(bytes, set) : 0;
        mem_free(set);
        if (count > 0)
            return (unsigned)count;
        if (rc == 0 || why != EINVAL)
            break;
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

// The least quota of all groups so far, 0 = none.
static void add_quota(void *least, const char *dir, bool v2)
{
    double *q = least, quota, period;
    char line[FIRST_LINE];
    char *at = line;
    if (!first_line(dir, v2 ? "cpu.max" : "cpu.cfs_quota_us", line))
        return;
    quota = cgroup_number(&at);
    if (!v2) {
        at = line;
        if (!first_line(dir, "cpu.cfs_period_us", line))
            return;
    }
    period = cgroup_number(&at);
    if (quota > 0 && period > 0 && (*q == 0 || quota / period < *q))
        *q = quota / period;
}

double cpu_quota(const char *proc_cgroup, const char *root)
{
    double least = 0;
    cgroup_each(proc_cgroup, root, "cpu", add_quota, &least);
    return least;
}

unsigned cpu_count(void)
{
    unsigned n = affinity_count();
    double quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota > 0 && ceil(quota) < (double)n)
        n = (unsigned)ceil(quota);
    return n > 0 ? n : 1;
}

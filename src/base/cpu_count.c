// SPDX-License-Identifier: MIT
// Processors in reach of this process: sched_getaffinity, then the CPU bandwidth quota of its cgroup
// (kernel documentation: admin-guide/cgroup-v2 "cpu.max", scheduler/sched-bwc "cpu.cfs_quota_us").
//
//   version 2   line "0::PATH"            ROOT/PATH/cpu.max            "QUOTA PERIOD" or "max PERIOD"
//   version 1   line "N:cpu,cpuacct:PATH" ROOT/cpu/PATH/cpu.cfs_*_us   one number a file, -1 = none
//
// Easy to get wrong: every ancestor's quota counts, not only the leaf's; inside a container PATH may
// not exist below ROOT because ROOT is already the container's own group, so missing levels are
// skipped on the way up and ROOT itself is read too.
#define _GNU_SOURCE // sched_getaffinity
#include "base/cpu_count.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum { PATH_ROOM = 4096, LINE_ROOM = 4096 };

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

// First line of dir/name without its newline; false when there is none.
static bool first_line(const char *dir, const char *name, char line[LINE_ROOM])
{
    char path[PATH_ROOM];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return false;
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool got = fgets(line, LINE_ROOM, f) != NULL;
    fclose(f);
    return got;
}

// Positive number at *s, which moves behind it; 0 for "max", -1 and rubbish.
static double positive(char **s)
{
    char *end;
    double v = strtod(*s, &end);
    bool ok = end != *s && v > 0 && isfinite(v);
    *s = end;
    return ok ? v : 0;
}

static double dir_quota(const char *dir, bool v2)
{
    char line[LINE_ROOM];
    char *at = line;
    double quota, period;
    if (!first_line(dir, v2 ? "cpu.max" : "cpu.cfs_quota_us", line))
        return 0;
    quota = positive(&at);
    if (!v2) {
        at = line;
        if (!first_line(dir, "cpu.cfs_period_us", line))
            return 0;
    }
    period = positive(&at);
    return quota > 0 && period > 0 ? quota / period : 0;
}

// Least quota of root/path and everything above it up to root.
static double least_quota(const char *root, const char *path, bool v2)
{
    char dir[PATH_ROOM];
    int n = snprintf(dir, sizeof dir, "%s%s", root, path);
    if (n < 0 || (size_t)n >= sizeof dir)
        return 0;
    size_t stop = strlen(root);
    double least = 0;
    for (;;) {
        double q = dir_quota(dir, v2);
        if (q > 0 && (least == 0 || q < least))
            least = q;
        if (strlen(dir) <= stop)
            return least;
        char *slash = strrchr(dir + stop, '/');
        if (slash)
            *slash = 0;
        else
            dir[stop] = 0;
    }
}

// Whether the comma-separated list names the controller "cpu".
static bool names_cpu(const char *list)
{
    for (;;) {
        size_t n = strcspn(list, ",");
        if (n == 3 && memcmp(list, "cpu", 3) == 0)
            return true;
        if (list[n] == 0)
            return false;
        list += n + 1;
    }
}

double cpu_quota(const char *proc_cgroup, const char *root)
{
    char line[LINE_ROOM], v1_root[PATH_ROOM];
    double least = 0;
    FILE *f = fopen(proc_cgroup, "r");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        list++;
        double q = 0;
        if (*list == 0) {
            q = least_quota(root, path, true);
        } else if (names_cpu(list)) {
            int n = snprintf(v1_root, sizeof v1_root, "%s/cpu", root);
            if (n > 0 && (size_t)n < sizeof v1_root)
                q = least_quota(v1_root, path, false);
        }
        if (q > 0 && (least == 0 || q < least))
            least = q;
    }
    fclose(f);
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

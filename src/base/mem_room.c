// SPDX-License-Identifier: MIT
// MemAvailable of /proc/meminfo, and of each control group its limit less what it uses and could not give up
// (kernel documentation: filesystems/proc, admin-guide/cgroup-v2 "memory", admin-guide/cgroup-v1/memory).
//
//   version 2   memory.max, memory.high        memory.current          memory.stat: inactive_file, active_file
//   version 1   memory.limit_in_bytes          memory.usage_in_bytes   memory.stat: total_inactive_file, total_active_file
//
// Easy to get wrong: a group's usage counts the files it has read, mapped weights above all.
#define _GNU_SOURCE // syscall
#include "base/mem_room.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/first_line.h"

// The sum of the numbers behind those names at the beginning of lines; false where none of them is.
static bool sum_of(const char *path, const char *const *names, double *sum)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(path, "r");
    *sum = 0;
    if (!f)
        return false;
    while (fgets(line, sizeof line, f))
        for (const char *const *name = names; *name; name++) {
            size_t n = strlen(*name);
            char *at = line + n;
            if (strncmp(line, *name, n) != 0)
                continue;
            *sum += cgroup_number(&at);
            found = true;
        }
    fclose(f);
    return found;
}

static double number_in(const char *dir, const char *name)
{
    char line[FIRST_LINE], *at = line;
    return first_line(dir, name, line) ? cgroup_number(&at) : 0;
}

// What the file says, infinity for "max" and where there is none.
static double limit_in(const char *dir, const char *name)
{
    char line[FIRST_LINE], *at = line;
    if (!first_line(dir, name, line) || line[strcspn(line, "0123456789")] == 0)
        return INFINITY;
    return cgroup_number(&at);
}

// The least room of all groups so far.
static void add_group(void *least, const char *dir, bool v2)
{
    static const char *const v2_files[] = {"inactive_file ", "active_file ", NULL};
    static const char *const v1_files[] = {"total_inactive_file ", "total_active_file ", NULL};
    double *room = least, limit, used, files;
    char stat[FIRST_LINE];
    limit = v2 ? fmin(limit_in(dir, "memory.max"), limit_in(dir, "memory.high"))
               : limit_in(dir, "memory.limit_in_bytes");
    int n = snprintf(stat, sizeof stat, "%s/memory.stat", dir);
    if (isinf(limit) || n < 0 || (size_t)n >= sizeof stat)
        return;
    used = number_in(dir, v2 ? "memory.current" : "memory.usage_in_bytes");
    sum_of(stat, v2 ? v2_files : v1_files, &files);
    used = used > files ? used - files : 0;
    limit = limit > used ? limit - used : 0;
    *room = limit < *room ? limit : *room;
}

uint64_t mem_room_of(const char *meminfo, const char *proc_cgroup, const char *root)
{
    static const char *const available[] = {"MemAvailable:", NULL};
    double room;
    if (!sum_of(meminfo, available, &room))
        return 0;
    room *= 1024;
    cgroup_each(proc_cgroup, root, "memory", add_group, &room);
    return room < 0x1p63 ? (uint64_t)room : (uint64_t)1 << 63;
}

// Whether this thread's memory is to come from given nodes (numactl --membind; set_mempolicy(2), linux/mempolicy.h).
static bool bound_to_nodes(void)
{
#ifdef SYS_get_mempolicy
    enum { BIND = 2, MODES = 0xff };
    int mode = 0;
    return syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) == 0 && (mode & MODES) == BIND;
#else
    return false;
#endif
}

uint64_t mem_room(void)
{
    if (bound_to_nodes())
        return 0;
    return mem_room_of("/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup");
}

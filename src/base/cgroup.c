// SPDX-License-Identifier: MIT
// Control groups of both versions (kernel documentation: admin-guide/cgroup-v2, admin-guide/cgroup-v1).
//
//   version 2   line "0::PATH"            ROOT/PATH
//   version 1   line "N:cpu,cpuacct:PATH" ROOT/cpu/PATH
//
// Easy to get wrong: inside a container PATH may not exist below ROOT because ROOT is already the container's own
// group, so missing levels are skipped on the way up and ROOT itself is read too.
#include "base/cgroup.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/first_line.h"

enum { PATH_ROOM = 4096 };

double cgroup_number(char **s)
{
    char *end;
    double v = strtod(*s, &end);
    bool ok = end != *s && v > 0 && isfinite(v);
    *s = end;
    return ok ? v : 0;
}

// root/path and everything above it up to root.
static void upwards(const char *root, const char *path, bool v2, cgroup_fn *fn, void *user)
{
    char dir[PATH_ROOM];
    int n = snprintf(dir, sizeof dir, "%s%s", root, path);
    if (n < 0 || (size_t)n >= sizeof dir)
        return;
    size_t stop = strlen(root);
    for (;;) {
        fn(user, dir, v2);
        if (strlen(dir) <= stop)
            return;
        char *slash = strrchr(dir + stop, '/');
        if (slash)
            *slash = 0;
        else
            dir[stop] = 0;
    }
}

// Whether the comma-separated list names the controller.
static bool names(const char *list, const char *controller)
{
    size_t length = strlen(controller);
    for (;;) {
        size_t n = strcspn(list, ",");
        if (n == length && memcmp(list, controller, n) == 0)
            return true;
        if (list[n] == 0)
            return false;
        list += n + 1;
    }
}

void cgroup_each(const char *proc_cgroup, const char *root, const char *controller, cgroup_fn *fn,
                 void *user)
{
    char line[FIRST_LINE], v1_root[PATH_ROOM];
    FILE *f = fopen(proc_cgroup, "r");
    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        list++;
        if (*list == 0) {
            upwards(root, path, true, fn, user);
        } else if (names(list, controller)) {
            int n = snprintf(v1_root, sizeof v1_root, "%s/%s", root, controller);
            if (n > 0 && (size_t)n < sizeof v1_root)
                upwards(v1_root, path, false, fn, user);
        }
    }
    fclose(f);
}

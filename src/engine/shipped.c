// SPDX-License-Identifier: MIT
// Where the small model that ships with ivchat lies, the answer to "no model named". In this order:
//
//   $IVCHAT_MODELS_DIR/ivchat-small              when the variable is set; then nowhere else
//   HOME/../models/ivchat-small                  in the source tree, HOME = build*/
//   HOME/../share/ivchat/models/ivchat-small     installed, HOME = PREFIX/bin or PREFIX/lib
//   HOME/../../share/ivchat/models/ivchat-small  installed, HOME = PREFIX/lib/x86_64-linux-gnu
//   IV_MODELS_DIR/ivchat-small                   PREFIX as it was configured
//
// HOME is the folder of the file that holds this code: libivchat.so, or the program that libivchat.a was
// linked into. The last place serves embedders' programs, which lie anywhere.
//
// Easy to get wrong: the loader calls the main program by argv[0], which is whatever the caller wrote,
// hence /proc/self/exe; a symbolic link to the program or the library must lead to the real folder,
// hence realpath.
#define _GNU_SOURCE // dl_iterate_phdr

#include "engine/shipped.h"

#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char NAME[] = "ivchat-small";
static const char VARIABLE[] = "IVCHAT_MODELS_DIR";

struct search {
    uintptr_t code; // an address in the object looked for
    const char *name;
    size_t n_seen;
};

// dl_iterate_phdr shows the main program first, then the libraries by the paths they were loaded from.
static int find_object(struct dl_phdr_info *info, size_t size, void *user)
{
    struct search *s = user;
    bool main_program = s->n_seen++ == 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && s->code >= begin &&
            s->code - begin < info->dlpi_phdr[i].p_memsz) {
            s->name = main_program ? "/proc/self/exe" : info->dlpi_name;
            return 1;
        }
    }
    return 0;
}

// Cuts the last component off an absolute path; false at the root.
static bool to_parent(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash || !slash[1])
        return false;
    slash[slash == path] = 0;
    return true;
}

// home: folder of this code, its parent, and the parent of that, absolute and free of links; "" = none.
static void find_home(char home[PATH_MAX], char above[PATH_MAX], char top[PATH_MAX])
{
    struct search s = {.code = (uintptr_t)&shipped_find};
    home[0] = above[0] = top[0] = 0;
    (void)dl_iterate_phdr(find_object, &s);
    if (!s.name || !*s.name || !realpath(s.name, home) || !to_parent(home)) {
        home[0] = 0;
        return;
    }
    snprintf(above, PATH_MAX, "%s", home);
    if (!to_parent(above))
        return;
    snprintf(top, PATH_MAX, "%s", above);
    if (!to_parent(top))
        top[0] = 0;
}

// Whether folder/NAME is a model; its path is then in out, else appended to the places tried.
static bool try_folder(const char *folder, const char *below, char out[SHIPPED_PATH], char *tried,
                       size_t cap)
{
    char config[SHIPPED_PATH + 16];
    struct stat st;
    size_t n = strlen(tried);
    int len =
        snprintf(out, SHIPPED_PATH, "%s%s/%s", strcmp(folder, "/") ? folder : "", below, NAME);
    if (len < 0 || len >= SHIPPED_PATH)
        return false;
    snprintf(config, sizeof config, "%s/config.json", out);
    if (stat(config, &st) == 0)
        return true;
    if (n < cap)
        snprintf(tried + n, cap - n, "%s%s", n ? ", " : "", out);
    return false;
}

int shipped_find(char out[SHIPPED_PATH], struct err *e)
{
    char home[PATH_MAX], above[PATH_MAX], top[PATH_MAX], tried[ERR_MSG_MAX] = "";
    const char *named = getenv(VARIABLE);
    if (named && *named) {
        if (try_folder(named, "", out, tried, sizeof tried))
            return 0;
        return err_set(e, ERR_MODEL, "%s: no model %s in %s", VARIABLE, NAME, named);
    }
    find_home(home, above, top);
    if (*above && (try_folder(above, "/models", out, tried, sizeof tried) ||
                   try_folder(above, "/share/ivchat/models", out, tried, sizeof tried)))
        return 0;
    if (*top && try_folder(top, "/share/ivchat/models", out, tried, sizeof tried))
        return 0;
    if (try_folder(IV_MODELS_DIR, "", out, tried, sizeof tried))
        return 0;
    return err_set(e, ERR_MODEL, "the small model that ships with ivchat is not in %s", tried);
}

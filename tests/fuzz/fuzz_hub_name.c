// SPDX-License-Identifier: MIT
// Names from a command line, a hub or a cache folder. What is accepted stays below the folder it is for.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "hub/choose.h"
#include "hub/http.h"
#include "hub/hubcache.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void stays_below(const char *path)
{
    require(path[0] && path[0] != '/' && !strstr(path, "/../") && strncmp(path, "../", 3) != 0 &&
            strcmp(path, "..") != 0 &&
            (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct repo_name name;
    struct choice usual = {0};
    char text[1100], id[REPO_ID_MAX + 1], url[HTTP_URL_MAX] = "";
    if (n >= sizeof text)
        return 0;
    memcpy(text, data, n);
    text[n] = 0;
    if (repo_name_parse(text, &name, NULL) == 0) {
        char *folder = NULL;
        stays_below(name.id);
        stays_below(name.revision);
        require(cache_repo_folder("c", name.id, &folder, NULL) == 0);
        require(!strchr(folder + 2, '/') && cache_repo_id(folder + 2, id) && !strcmp(id, name.id));
        mem_free(folder);
    }
    if (repo_path_is_safe(text, n))
        stays_below(text);
    if (cache_repo_id(text, id))
        require(repo_name_is(id));
    require(http_append_encoded(url, sizeof url, text, n, true));
    require(strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~/%") ==
            strlen(url));
    (void)choice_wants(&usual, text);
    (void)http_same_origin(text, "https://h/");
    if (repo_etag_clean(text))
        require(!strchr(text, '/') && text[0] != '.');
    return 0;
}

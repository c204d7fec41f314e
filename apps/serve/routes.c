// SPDX-License-Identifier: MIT
// The table of paths. Easy to get wrong: what is not in the table needs a key like everything else, so that a 404
// tells nobody what exists; only /health is open.

#include "routes.h"

#include <stdio.h>
#include <string.h>

static const struct route routes[] = {
    {"GET", "/health", true, false, health_handle},
    {"GET", "/", false, false, page_handle},
    {"GET", "/openapi.json", false, false, openapi_handle},
    {"GET", "/metrics", false, false, metrics_handle},
    {"GET", "/v1/models", false, true, models_handle},
    {"GET", "/v1/models/*", false, true, model_handle},
    {"GET", "/props", false, true, props_handle},
    {"POST", "/v1/chat/completions", false, true, chat_handle},
    {"POST", "/v1/embeddings", false, true, embeddings_handle},
    {"POST", "/v1/videos", false, true, video_add_handle},
    {"GET", "/v1/videos", false, true, video_list_handle},
    {"GET", "/v1/videos/*", false, true, video_get_handle},
    {"DELETE", "/v1/videos/*", false, true, video_remove_handle},
    {"GET", "/v1/videos/*/frames", false, true, video_frames_handle},
    {"POST", "/tokenize", false, true, tokenize_handle},
    {"POST", "/detokenize", false, true, detokenize_handle},
    {"POST", "/apply-template", false, true, template_handle},
};

static bool matches(const char *pattern, const char *path, const char **rest)
{
    size_t n = strcspn(pattern, "*");
    if (strncmp(pattern, path, n) != 0)
        return false;
    if (!pattern[n])
        return path[n] == 0;
    size_t part = strcspn(path + n, "/");
    if (part == 0 || strcmp(pattern + n + 1, path + n + part) != 0)
        return false;
    *rest = path + n;
    return true;
}

const struct route *route_find(const char *method, const char *path, const char **rest,
                               char allow[64], struct refusal *r)
{
    size_t n = 0;
    allow[0] = 0;
    *rest = "";
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!matches(routes[i].path, path, rest))
            continue;
        bool get = strcmp(routes[i].method, "GET") == 0;
        if (strcmp(routes[i].method, method) == 0 || (get && strcmp(method, "HEAD") == 0))
            return &routes[i];
        n += (size_t)snprintf(allow + n, 64 - n, "%s%s%s", n ? ", " : "", routes[i].method,
                              get ? ", HEAD" : "");
    }
    if (n > 0)
        (void)refuse(r, 405, "method_not_allowed", "", "this path answers %s", allow);
    else
        (void)refuse(r, 404, "not_found", "", "there is no such path");
    return NULL;
}

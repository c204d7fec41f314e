// SPDX-License-Identifier: MIT
// Names on a hub: repositories, revisions, files, ETags. Whatever comes from a person or a server and
// becomes part of a path is checked here.
#ifndef IV_HUB_REPO_NAME_H
#define IV_HUB_REPO_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { REPO_ID_MAX = 96, REPO_REVISION_MAX = 255, REPO_PATH_MAX = 1024, REPO_ETAG_MAX = 128 };

struct repo_name {
    char id[REPO_ID_MAX + 1];             // "ORG/REPO"
    char revision[REPO_REVISION_MAX + 1]; // "main", a tag, "refs/pr/1" or a commit
    bool has_revision;                    // false = "main" by default
};

// Reads "ORG/REPO" or "ORG/REPO@REVISION". ERR_USAGE.
int repo_name_parse(const char *text, struct repo_name *out, struct err *e);
// Whether text has that form (and so could name no folder that a person writes with ./ or /).
bool repo_name_is(const char *text);
// 40 lower-case hex digits.
bool repo_is_commit(const char *text);
// 64 lower-case hex digits.
bool repo_is_sha256(const char *text);
// n bytes of a relative path with '/' between plain names: no "..", ".", empty name, backslash, colon after
// one letter, control character or byte that is no UTF-8; at most REPO_PATH_MAX - 1 bytes, names below 256.
bool repo_path_is_safe(const char *path, size_t n);
// Strips W/ and quotes in place. false (and an empty text) unless the rest is fit for a file name.
bool repo_etag_clean(char *etag);

#endif

// SPDX-License-Identifier: MIT
// The hub client's cache on disk, shared with it.
//
//   CACHE/models--ORG--REPO/blobs/ETAG                   contents
//                          /snapshots/COMMIT/PATH        links to them, relative
//                          /refs/REVISION                a commit, without newline
//        /.locks/models--ORG--REPO/ETAG.lock             flock while ETAG is written
//                                   ivchat.lock         flock while anything is downloaded or removed
//                                   *.tmp               links and refs before they are renamed
//        /CACHEDIR.TAG
#ifndef IV_HUB_HUBCACHE_H
#define IV_HUB_HUBCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hub/repo_name.h"

// printf into a new path, the caller's (mem_free). ERR_LIMIT.
int path_make(char **out, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// Makes the folders above the last name of path (and with `all` that one too).
int path_make_folders(const char *path, bool all, struct err *e);
// Whether path, links followed, is a regular file; *size then.
bool path_is_file(const char *path, uint64_t *size);
// Bytes that the file itself occupies on disk; 0 when there is none.
uint64_t path_disk_bytes(const char *path);
bool path_is_folder(const char *path);
// Writes text as a whole file that appears at once: written aside, in the folder of that name (made if need be; NULL
// = beside path), and renamed.
int path_write(const char *aside, const char *path, const char *text, struct err *e);
// Makes or replaces a symbolic link at once.
int path_link(const char *aside, const char *target, const char *path, struct err *e);

// CACHE/models--ORG--REPO. The caller's.
int cache_repo_folder(const char *cache, const char *id, char **out, struct err *e);
// CACHE/.locks/models--ORG--REPO, for locks and for what is written aside. The caller's.
int cache_lock_folder(const char *repo_folder, char **out, struct err *e);
// The inverse for one entry of CACHE: "ORG/REPO", false for what is none.
bool cache_repo_id(const char *entry, char id[REPO_ID_MAX + 1]);
// Commit of a revision by refs/; a commit stands for itself. false = not known here.
bool cache_read_ref(const char *repo_folder, const char *revision, char commit[41]);
int cache_write_ref(const char *repo_folder, const char *revision, const char *commit,
                    struct err *e);
// Held by every download into a repository's folder (shared) and by its removal (exclusive). *fd as of lock_try.
int cache_lock_repo(const char *repo_folder, bool exclusive, int *fd, struct err *e);
// What cache_lock_repo locks. The caller's.
int cache_lock_name(const char *repo_folder, char **out, struct err *e);
// Writes CACHEDIR.TAG if there is none; failing does not matter.
void cache_tag(const char *cache);

// An exclusive lock between processes, that of the hub's own client. *fd gets the open file, -1 when
// another holds it (0 is returned then as well). Folders are made.
int lock_try(const char *path, int *fd, struct err *e);
void lock_release(int fd); // -1 is allowed

#endif

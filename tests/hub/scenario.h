// SPDX-License-Identifier: MIT
// How the test hub misbehaves for one repository: lines "key value" of ROOT/ORG/REPO.conf, read anew for
// each request.
#ifndef TEST_SCENARIO_H
#define TEST_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

struct failure { // the first `count` requests of a kind and path get `status`
    int status, count;
    char retry_after[16];
};

struct scenario {
    char commit[41];
    char base_model[100];
    char oid[65];   // said of every file instead of its checksum
    uint64_t large; // files of so many bytes lie in the store, behind a redirect; 0 = none do
    bool gated, private_, no_ranges, wrong_range, loop, downgrade, next_away, no_etag, other_etag;
    bool head_size_lies;
    struct failure info, tree, head, get; // get = bytes, from hub or store
    long extra;                           // bytes sent beyond the file, announced
    long short_by;                        // bytes announced and not sent, at the end of the file
    char wrong_bytes[100];                // file of which a byte is flipped
    char cut[100], stall[100]; // file that breaks off or stops after so many bytes, so many times
    uint64_t cut_after, stall_after;
    int cut_count, stall_count;
    long throttle;                       // bytes a second and connection
    long slow_head;                      // ms before the answer to HEAD
    int expire;                          // requests that an address of the store is good for
    int page;                            // entries a page of the list
    char tree_file[300], info_file[300]; // sent instead of the list and the answer on the revision
};

void scenario_read(const char *root, const char *repo, struct scenario *out);
// How often this was called with the same text before.
int scenario_count(const char *kind, const char *what);

#endif

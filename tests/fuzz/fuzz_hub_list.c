// SPDX-License-Identifier: MIT
// The hub's JSON: first byte 'i' = the answer on a revision, 'c' = config.json, else a page of the list of
// files, twice. What is accepted must be safe to make paths of.
#include <stdint.h>
#include <string.h>

#include "hub/listing.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void page(const char *text, size_t n)
{
    struct listing l = {0};
    uint64_t sum = 0;
    int rc = listing_add_page(&l, text, n, "a/b", NULL);
    if (rc == 0)
        rc = listing_finish(&l, "a/b", NULL);
    for (size_t i = 0; i < l.n; i++) {
        const struct remote_file *f = &l.file[i];
        require(repo_path_is_safe(f->path, strlen(f->path)));
        require(*f->sha256 ? repo_is_sha256(f->sha256) && !*f->oid : repo_is_commit(f->oid));
        require(rc != 0 || i == 0 || strcmp(l.file[i - 1].path, f->path) < 0);
        sum += f->size;
    }
    require(sum == l.bytes && sum <= LISTING_MAX_BYTES);
    if (rc == 0 && l.n > 0)
        require(listing_add_page(&l, text, n, "a/b", NULL) != 0 ||
                listing_finish(&l, "a/b", NULL) == ERR_NETWORK); // everything twice
    listing_free(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct repo_info info;
    char base[REPO_ID_MAX + 1];
    if (n == 0)
        return 0;
    const char *text = (const char *)data + 1;
    if (data[0] == 'i') {
        if (repo_info_parse(text, n - 1, "a/b", &info, NULL) == 0)
            require(repo_is_commit(info.commit) &&
                    (!*info.base_model || repo_name_is(info.base_model)));
    } else if (data[0] == 'c') {
        if (config_base_model(text, n - 1, base, NULL) == 0)
            require(!*base || repo_name_is(base));
    } else {
        page(text, n - 1);
    }
    return 0;
}

// SPDX-License-Identifier: MIT
// `ivchat list` and `ivchat rm`: the hub's cache on this machine.
//
//   OpenGVLab/InternVideo2_chat_8B_HD                     19.4 GB
//       4d1e9a6b21c0  main                                19.4 GB  12 files
//
// Easy to get wrong: a repository's size counts what its revisions share once, so it may be less than the
// sum of theirs.

#include <string.h>

#include "bytesize.h"
#include "console.h"
#include "heap.h"
#include "jsontext.h"
#include "savefile.h"
#include "verbs.h"

static void list_text(struct console *con, const struct iv_hub_repo *repo, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct iv_hub_repo *r = &repo[i];
        char size[16];
        (void)console_print(con, "%-50s %10s", r->id, bytesize(r->bytes, size));
        if (r->unfinished || !r->n_revision)
            (void)console_print(con, "  %s unfinished, `ivchat pull %s` goes on",
                                bytesize(r->unfinished, size), r->id);
        (void)console_print(con, "\n");
        for (size_t k = 0; k < r->n_revision; k++) {
            const struct iv_hub_revision *v = &r->revision[k];
            (void)console_print(con, "    %.12s  %-32s %10s  %zu files%s\n", v->commit,
                                *v->refs ? v->refs : "-", bytesize(v->bytes, size), v->n_file,
                                v->usable ? "" : ", no complete model");
        }
    }
}

static int list_json(struct console *con, const struct iv_hub_repo *repo, size_t n,
                     struct iv_error *e)
{
    struct json_writer w;
    jw_begin(&w);
    jw_array(&w, "models");
    for (size_t i = 0; i < n; i++) {
        jw_object(&w, NULL);
        jw_text(&w, "repo", repo[i].id);
        jw_text(&w, "folder", repo[i].folder);
        jw_count(&w, "bytes", repo[i].bytes);
        jw_count(&w, "unfinished_bytes", repo[i].unfinished);
        jw_array(&w, "revisions");
        for (size_t k = 0; k < repo[i].n_revision; k++) {
            const struct iv_hub_revision *v = &repo[i].revision[k];
            jw_object(&w, NULL);
            jw_text(&w, "commit", v->commit);
            jw_text(&w, "refs", v->refs);
            jw_count(&w, "bytes", v->bytes);
            jw_count(&w, "files", v->n_file);
            jw_flag(&w, "usable", v->usable);
            jw_end(&w);
        }
        jw_end(&w);
        jw_end(&w);
    }
    jw_end(&w);
    char *line = jw_take(&w);
    if (!line)
        return app_error(e, IV_ERR_LIMIT, "out of memory for the JSON line");
    (void)(console_write(con, line, strlen(line)) && console_write(con, "\n", 1));
    heap_free(line);
    return IV_OK;
}

int list_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct iv_hub_repo *repo;
    struct iv_error e = {0};
    size_t n;
    (void)verb;
    int rc = iv_hub_list(&repo, &n, &e);
    if (rc == IV_OK && s->json)
        rc = list_json(con, repo, n, &e);
    else if (rc == IV_OK)
        list_text(con, repo, n);
    if (rc == IV_OK && n == 0 && !s->json)
        console_say(con, "no model in the cache; `ivchat pull ORG/REPO` loads one");
    iv_hub_list_free(repo, n);
    return rc == IV_OK ? 0 : console_fail(con, rc, &e);
}

int rm_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct iv_error e = {0};
    uint64_t freed;
    (void)verb;
    int rc = s->repo ? iv_hub_remove(s->repo, s->dry_run, &freed, &e)
                     : app_error(&e, IV_ERR_USAGE, "no model given: ivchat rm ORG/REPO");
    if (rc != IV_OK)
        return console_fail(con, rc, &e);
    char size[16];
    console_say(con, "%s: %s %s", s->repo, bytesize(freed, size),
                s->dry_run ? "would be freed" : "freed");
    return 0;
}

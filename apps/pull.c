// SPDX-License-Identifier: MIT
// `ivchat pull`: standard output gets the folder of the model, or with --dry-run a line a file:
//
//        4943162336 load  model-00001-of-00004.safetensors
//               519 here  config.json
//
// Easy to get wrong: the bars have to go before any other line; HF_HUB_DISABLE_PROGRESS_BARS is a wish of
// the user's like --progress never.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bytesize.h"
#include "console.h"
#include "heap.h"
#include "jsontext.h"
#include "pullbars.h"
#include "savefile.h"
#include "signals.h"
#include "verbs.h"
#include "wallclock.h"

struct pulling {
    struct console *con;
    struct pull_bars bars;
};

static void on_log(void *user, enum iv_log_level level, const char *line)
{
    struct pulling *p = user;
    pull_bars_clear(&p->bars);
    console_line(p->con, level, line);
}

static bool on_abort(void *user)
{
    struct pulling *p = user;
    return signals_caught() || atomic_load(&p->con->output_lost);
}

static void on_files(void *user, const struct iv_hub_file *file, size_t n)
{
    struct pulling *p = user;
    pull_bars_show(&p->bars, file, n);
}

static bool bars_unwanted(void)
{
    static const char *const yes[] = {"1", "on", "yes", "true"}; // as the hub's own client reads it
    const char *v = getenv("HF_HUB_DISABLE_PROGRESS_BARS");
    for (size_t i = 0; v && i < sizeof yes / sizeof *yes; i++) {
        if (strcasecmp(v, yes[i]) == 0)
            return true;
    }
    return false;
}

static int tell_json(struct console *con, const struct settings *s, const struct iv_hub_snapshot *r,
                     double seconds, struct iv_error *e)
{
    struct json_writer w;
    jw_begin(&w);
    jw_text(&w, "repo", s->repo);
    jw_text(&w, "commit", *r->commit ? r->commit : NULL);
    jw_text(&w, "folder", r->folder);
    jw_flag(&w, "dry_run", s->dry_run);
    jw_array(&w, "files");
    for (size_t i = 0; i < r->n_file; i++) {
        jw_object(&w, NULL);
        jw_text(&w, "path", r->file[i].path);
        jw_count(&w, "size", r->file[i].size);
        jw_flag(&w, "here", r->file[i].state == IV_HUB_DONE);
        jw_end(&w);
    }
    jw_end(&w);
    jw_count(&w, "bytes", r->bytes);
    jw_count(&w, "missing_bytes", r->missing);
    jw_count(&w, "fetched_bytes", r->fetched);
    jw_ms(&w, "ms", 1e3 * seconds);
    char *line = jw_take(&w);
    if (!line)
        return app_error(e, IV_ERR_LIMIT, "out of memory for the JSON line");
    (void)(console_write(con, line, strlen(line)) && console_write(con, "\n", 1));
    heap_free(line);
    return IV_OK;
}

static void tell_text(struct console *con, const struct settings *s,
                      const struct iv_hub_snapshot *r, double seconds)
{
    char all[16], now[16];
    for (size_t i = 0; i < r->n_file && s->dry_run; i++)
        (void)console_print(con, "%14llu %s  %s\n", (unsigned long long)r->file[i].size,
                            r->file[i].state == IV_HUB_DONE ? "here" : "load", r->file[i].path);
    if (s->dry_run) {
        (void)console_print(con, "%14llu bytes in %zu files, %llu to load\n",
                            (unsigned long long)r->bytes, r->n_file,
                            (unsigned long long)r->missing);
        return;
    }
    if (r->missing > 0)
        console_say(con, "%s: %s in %zu files, %s received in %.1f s, verified", s->repo,
                    bytesize(r->bytes, all), r->n_file, bytesize(r->fetched, now), seconds);
    if (r->folder) // may be longer than a line of console_print
        (void)(console_write(con, r->folder, strlen(r->folder)) && console_write(con, "\n", 1));
}

int pull_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct pulling p = {.con = con, .bars = {.con = con}};
    struct iv_hub_snapshot result = {0};
    struct iv_hub_options o = iv_hub_options_default();
    struct iv_error e = {0};
    (void)verb;
    if (!s->repo)
        return console_fail(
            con, app_error(&e, IV_ERR_USAGE, "no model given: ivchat pull ORG/REPO"), &e);
    if (bars_unwanted())
        con->progress.style = PROGRESS_NONE;
    o.include = s->include.item;
    o.n_include = s->include.n;
    o.exclude = s->exclude.item;
    o.n_exclude = s->exclude.n;
    o.local_dir = s->local_dir;
    o.n_connection = s->connections;
    o.retries = s->retries;
    o.dry_run = s->dry_run;
    o.callbacks = (struct iv_callbacks){.user = &p, .log = on_log, .abort = on_abort};
    o.files = con->progress.style == PROGRESS_NONE ? NULL : on_files;
    double begun = clock_seconds();
    int rc = iv_hub_pull(s->repo, &o, &result, &e);
    double seconds = clock_seconds() - begun;
    pull_bars_end(&p.bars);
    if (rc == IV_OK && s->json)
        rc = tell_json(con, s, &result, seconds, &e);
    else if (rc == IV_OK)
        tell_text(con, s, &result, seconds);
    iv_hub_snapshot_free(&result);
    return rc == IV_OK ? 0 : console_fail(con, rc, &e);
}

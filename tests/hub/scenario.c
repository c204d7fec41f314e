// SPDX-License-Identifier: MIT
// The scenarios of the test hub and the counters behind "the first N times".
#include "scenario.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNTERS = 8192 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char what[400];
    int n;
} counter[COUNTERS];
static size_t n_counter;

int scenario_count(const char *kind, const char *what)
{
    char text[400];
    int n = 0;
    snprintf(text, sizeof text, "%s %.380s", kind, what);
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < n_counter && strcmp(counter[i].what, text) != 0)
        i++;
    if (i == n_counter && n_counter < COUNTERS)
        memcpy(counter[n_counter++].what, text, sizeof text);
    if (i < n_counter)
        n = counter[i].n++;
    pthread_mutex_unlock(&lock);
    return n;
}

static void read_failure(const char *value, struct failure *f)
{
    (void)sscanf(value, "%d %d %15s", &f->status, &f->count, f->retry_after);
}

static void copy(char *out, size_t cap, const char *value)
{
    snprintf(out, cap, "%.*s", (int)cap - 1, value);
}

static void read_line(const char *key, const char *value, struct scenario *s)
{
    struct {
        const char *key;
        bool *flag;
    } flags[] = {{"gated", &s->gated},
                 {"private", &s->private_},
                 {"no-ranges", &s->no_ranges},
                 {"wrong-range", &s->wrong_range},
                 {"loop", &s->loop},
                 {"downgrade", &s->downgrade},
                 {"next-away", &s->next_away},
                 {"no-etag", &s->no_etag},
                 {"other-etag", &s->other_etag},
                 {"head-size-lies", &s->head_size_lies}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (!strcmp(key, flags[i].key))
            *flags[i].flag = strcmp(value, "0") != 0;
    }
    if (!strcmp(key, "commit"))
        copy(s->commit, sizeof s->commit, value);
    else if (!strcmp(key, "oid"))
        copy(s->oid, sizeof s->oid, value);
    else if (!strcmp(key, "base-model"))
        copy(s->base_model, sizeof s->base_model, value);
    else if (!strcmp(key, "large"))
        s->large = strtoull(value, NULL, 10);
    else if (!strcmp(key, "fail-info"))
        read_failure(value, &s->info);
    else if (!strcmp(key, "fail-tree"))
        read_failure(value, &s->tree);
    else if (!strcmp(key, "fail-head"))
        read_failure(value, &s->head);
    else if (!strcmp(key, "fail-get"))
        read_failure(value, &s->get);
    else if (!strcmp(key, "extra"))
        s->extra = strtol(value, NULL, 10);
    else if (!strcmp(key, "short-by"))
        s->short_by = strtol(value, NULL, 10);
    else if (!strcmp(key, "wrong-bytes"))
        copy(s->wrong_bytes, sizeof s->wrong_bytes, value);
    else if (!strcmp(key, "cut"))
        (void)sscanf(value, "%99s %lu %d", s->cut, &s->cut_after, &s->cut_count);
    else if (!strcmp(key, "stall"))
        (void)sscanf(value, "%99s %lu %d", s->stall, &s->stall_after, &s->stall_count);
    else if (!strcmp(key, "throttle"))
        s->throttle = strtol(value, NULL, 10);
    else if (!strcmp(key, "slow-head"))
        s->slow_head = strtol(value, NULL, 10);
    else if (!strcmp(key, "expire"))
        s->expire = (int)strtol(value, NULL, 10);
    else if (!strcmp(key, "page"))
        s->page = (int)strtol(value, NULL, 10);
    else if (!strcmp(key, "tree-file"))
        copy(s->tree_file, sizeof s->tree_file, value);
    else if (!strcmp(key, "info-file"))
        copy(s->info_file, sizeof s->info_file, value);
}

void scenario_read(const char *root, const char *repo, struct scenario *out)
{
    char path[4096], line[600], key[64], value[500];
    memset(out, 0, sizeof *out);
    memset(out->commit, 'c', 40);
    out->large = 4096;
    snprintf(path, sizeof path, "%s/%s.conf", root, repo);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%63s %499[^\n]", key, value) == 2)
            read_line(key, value, out);
    }
    if (f)
        fclose(f);
}

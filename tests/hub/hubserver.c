// SPDX-License-Identifier: MIT
// A hub on this machine for tests: the API, the files, and a store on "another host" to which large files
// are redirected, with every misbehaviour that scenario.h names.
//
//   hubserver ROOT LOG [--tls]     prints {"hub":PORT,"store":PORT,"certificate":PATH}; ends with its
//                                  standard input
//
// LOG gets a line a request: {"host","method","path","range","token","status","sent","whole"}.
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "hub/repo_name.h"
#include "repository.h"
#include "selfsigned.h"

static const char *root;
static FILE *log_file;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned port_hub, port_store;
static bool tls;

// One request, from its first line to its last byte.
struct visit {
    bool store; // else the hub
    char method[8], path[2000], range[64], token[200];
    struct scenario scenario;
    int status;
    // bytes of a file
    int fd;
    uint64_t at, end; // of the file
    uint64_t sent, cut_at, stall_at, flip_at;
    bool counted; // sent is exact
};

static void sleep_s(double s)
{
    struct timespec t = {.tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)};
    (void)nanosleep(&t, NULL);
}

// ---- answers

static enum MHD_Result queue(struct visit *v, struct MHD_Connection *c, int status,
                             struct MHD_Response *r)
{
    v->status = status;
    enum MHD_Result rc = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return rc;
}

static struct MHD_Response *text_response(const char *text, size_t n)
{
    return MHD_create_response_from_buffer(n, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result fail(struct visit *v, struct MHD_Connection *c, int status, const char *code,
                            const char *message)
{
    struct MHD_Response *r = text_response(message, strlen(message));
    if (*code)
        MHD_add_response_header(r, "X-Error-Code", code);
    MHD_add_response_header(r, "X-Error-Message", message);
    return queue(v, c, status, r);
}

// true when this request is one of those that fail.
static bool fails(struct visit *v, struct MHD_Connection *c, const struct failure *f,
                  const char *kind, enum MHD_Result *rc)
{
    if (!f->status || (f->count >= 0 && scenario_count(kind, v->path) >= f->count))
        return false;
    struct MHD_Response *r = text_response("no", 2);
    if (*f->retry_after)
        MHD_add_response_header(r, "Retry-After", f->retry_after);
    if (*v->token) // some servers repeat what they were sent
        MHD_add_response_header(r, "X-Error-Message", v->token);
    *rc = queue(v, c, f->status, r);
    return true;
}

static enum MHD_Result send_file_as(struct visit *v, struct MHD_Connection *c, const char *path)
{
    int fd = open(path, O_RDONLY);
    off_t n = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (fd < 0)
        return fail(v, c, 500, "", "the test's file is missing");
    return queue(v, c, 200, MHD_create_response_from_fd_at_offset64((uint64_t)n, fd, 0));
}

static ssize_t read_bytes(void *user, uint64_t pos, char *out, size_t max)
{
    struct visit *v = user;
    long throttle = v->scenario.throttle;
    (void)pos;
    if (v->at >= v->end)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (v->at >= v->cut_at)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (v->at >= v->stall_at) {
        sleep_s(4);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t n = max;
    if (throttle > 0 && n > (size_t)throttle / 50 + 1)
        n = (size_t)throttle / 50 + 1;
    uint64_t stop = v->end < v->cut_at ? v->end : v->cut_at;
    stop = stop < v->stall_at ? stop : v->stall_at;
    if (n > stop - v->at)
        n = (size_t)(stop - v->at);
    ssize_t got = pread(v->fd, out, n, (off_t)v->at);
    if (got < 0)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if ((size_t)got < n)
        memset(out + got, 'x', n - (size_t)got); // beyond the file's end: "extra"
    if (v->flip_at >= v->at && v->flip_at < v->at + n)
        out[v->flip_at - v->at] ^= 1;
    if (throttle > 0)
        sleep_s((double)n / (double)throttle);
    v->at += n;
    v->sent += n;
    return (ssize_t)n;
}

// Whether the file is the one that misbehaves, and is to do so this time.
static bool misbehaves(const char *name, int count, const struct visit *v, const char *kind)
{
    size_t n = strlen(name), m = strlen(v->path);
    if (!n || m < n || strcmp(v->path + m - n, name) != 0)
        return false;
    return count < 0 || scenario_count(kind, v->path) < count;
}

static enum MHD_Result send_bytes(struct visit *v, struct MHD_Connection *c, const struct stored *f)
{
    struct scenario *s = &v->scenario;
    char text[100];
    unsigned long long from = 0, last = f->size ? f->size - 1 : 0;
    bool ranged = *v->range && !s->no_ranges;
    if (ranged &&
        (sscanf(v->range, "bytes=%llu-%llu", &from, &last) != 2 || from > last || last >= f->size))
        return fail(v, c, 416, "", "no such range");
    v->fd = open(f->disk, O_RDONLY);
    v->at = from;
    v->end = f->size ? last + 1 : 0;
    bool exact = false;
    if (!ranged && s->extra)
        v->end += (uint64_t)s->extra;
    v->cut_at = v->stall_at = v->flip_at = UINT64_MAX;
    if (misbehaves(s->cut, s->cut_count, v, "cut"))
        v->cut_at = from + s->cut_after;
    if (s->short_by)
        v->cut_at = f->size - (uint64_t)s->short_by;
    if (misbehaves(s->stall, s->stall_count, v, "stall"))
        v->stall_at = from + s->stall_after;
    if (misbehaves(s->wrong_bytes, -1, v, "wrong"))
        v->flip_at = f->size / 2;
    exact = v->cut_at != UINT64_MAX || v->stall_at != UINT64_MAX || v->flip_at != UINT64_MAX ||
            s->throttle > 0 || v->end > f->size;
    v->counted = exact;
    if (!exact)
        v->sent = v->end - v->at;
    struct MHD_Response *r =
        exact ? MHD_create_response_from_callback(v->end - v->at, 256 << 10, read_bytes, v, NULL)
              : MHD_create_response_from_fd_at_offset64(v->end - v->at, v->fd, v->at);
    if (!exact)
        v->fd = -1; // libmicrohttpd closes it
    if (ranged) {
        snprintf(text, sizeof text, "bytes %llu-%llu/%llu", from + (s->wrong_range ? 1 : 0), last,
                 (unsigned long long)f->size);
        MHD_add_response_header(r, "Content-Range", text);
    }
    return queue(v, c, ranged ? 206 : 200, r);
}

// ---- the API

static enum MHD_Result info(struct visit *v, struct MHD_Connection *c)
{
    struct scenario *s = &v->scenario;
    char text[600];
    enum MHD_Result rc;
    if (fails(v, c, &s->info, "info", &rc))
        return rc;
    if (*s->info_file)
        return send_file_as(v, c, s->info_file);
    int n = snprintf(text, sizeof text, "{\"id\":\"x/y\",\"sha\":\"%s\",\"cardData\":{%s%s%s}}",
                     s->commit, *s->base_model ? "\"base_model\":\"" : "", s->base_model,
                     *s->base_model ? "\"" : "");
    return queue(v, c, 200, text_response(text, (size_t)n));
}

static enum MHD_Result tree(struct visit *v, struct MHD_Connection *c, const char *repo)
{
    struct scenario *s = &v->scenario;
    enum MHD_Result rc;
    if (fails(v, c, &s->tree, "tree", &rc))
        return rc;
    if (*s->tree_file)
        return send_file_as(v, c, s->tree_file);
    const char *cursor = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "cursor");
    size_t from = cursor ? strtoul(cursor, NULL, 10) : 0;
    struct buf b = {0};
    size_t total = repository_list(root, repo, s, from, (size_t)s->page, &b);
    struct MHD_Response *r = text_response(b.data, b.len);
    if (s->page && from + (size_t)s->page < total) {
        char link[3000];
        snprintf(link, sizeof link, "<http%s://%s:%u%s?recursive=true&cursor=%zu>; rel=\"next\"",
                 tls ? "s" : "", s->next_away ? "localhost" : "127.0.0.1",
                 s->next_away ? port_store : port_hub, v->path, from + (size_t)s->page);
        MHD_add_response_header(r, "Link", link);
    }
    buf_free(&b);
    return queue(v, c, 200, r);
}

static void describe(struct MHD_Response *r, const struct scenario *s, const struct stored *f)
{
    char etag[80], size[32];
    snprintf(etag, sizeof etag, "\"%s\"", s->other_etag ? "0123456789abcdef" : f->oid);
    snprintf(size, sizeof size, "%llu", (unsigned long long)f->size + (s->head_size_lies ? 1 : 0));
    MHD_add_response_header(r, "X-Repo-Commit", s->commit);
    if (f->large || s->head_size_lies)
        MHD_add_response_header(r, "X-Linked-Size", size);
    if (s->no_etag)
        return;
    if (f->large)
        MHD_add_response_header(r, "X-Linked-ETag", etag);
    MHD_add_response_header(r, "ETag", f->large ? "\"a pointer\"" : etag);
}

static enum MHD_Result resolve(struct visit *v, struct MHD_Connection *c, const char *repo,
                               const char *path)
{
    struct scenario *s = &v->scenario;
    struct stored f;
    enum MHD_Result rc;
    bool head = !strcmp(v->method, "HEAD");
    if (head)
        sleep_s(1e-3 * (double)s->slow_head);
    if (fails(v, c, head ? &s->head : &s->get, head ? "head" : "get", &rc))
        return rc;
    if (s->loop) {
        char here[3000];
        struct MHD_Response *r = text_response("", 0);
        snprintf(here, sizeof here, "http%s://127.0.0.1:%u%s", tls ? "s" : "", port_hub, v->path);
        MHD_add_response_header(r, "Location", here);
        return queue(v, c, 307, r);
    }
    if (!stored_find(root, repo, path, s, &f))
        return fail(v, c, 404, "EntryNotFound", "Entry not found");
    if (f.large || s->downgrade) {
        char there[3000];
        struct MHD_Response *r = text_response("", 0);
        snprintf(there, sizeof there, "http%s://localhost:%u/store/%s/%s?sig=%d",
                 tls && !s->downgrade ? "s" : "", port_store, repo, path,
                 scenario_count("sig", v->path));
        MHD_add_response_header(r, "Location", there);
        describe(r, s, &f);
        return queue(v, c, 302, r);
    }
    if (!head)
        return send_bytes(v, c, &f);
    struct MHD_Response *r = MHD_create_response_from_callback(
        f.size, 4096, read_bytes, v, NULL); // announces the length, sends nothing
    describe(r, s, &f);
    return queue(v, c, 200, r);
}

static enum MHD_Result store(struct visit *v, struct MHD_Connection *c, const char *repo,
                             const char *path)
{
    struct scenario *s = &v->scenario;
    struct stored f;
    enum MHD_Result rc;
    const char *sig = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "sig");
    char key[2100];
    snprintf(key, sizeof key, "%s?%s", v->path, sig ? sig : "");
    if (s->expire && scenario_count("expire", key) >= s->expire)
        return fail(v, c, 403, "", "Request has expired");
    if (fails(v, c, &s->get, "get", &rc))
        return rc;
    if (!stored_find(root, repo, path, s, &f))
        return fail(v, c, 404, "", "no such key");
    return send_bytes(v, c, &f);
}

// 0 = come in
static enum MHD_Result guard(struct visit *v, struct MHD_Connection *c, bool file, bool *in)
{
    struct scenario *s = &v->scenario;
    *in = false;
    if (*v->token && strncmp(v->token, "Bearer hf_", 10) != 0)
        return fail(v, c, 401, "", "Invalid credentials in Authorization header");
    if (s->private_ && !*v->token)
        return fail(v, c, 401, "RepoNotFound", "Invalid username or password.");
    if (s->gated && file && !*v->token)
        return fail(v, c, 401, "GatedRepo", "Access to this model is restricted.");
    if (s->gated && file && strstr(v->token, "stranger"))
        return fail(v, c, 403, "GatedRepo", "You are not in the authorized list.");
    *in = true;
    return MHD_YES;
}

// Splits "/ORG/REPO/rest" after a prefix.
static bool split(const char *path, const char *prefix, char repo[200], const char **rest)
{
    size_t n = strlen(prefix);
    if (strncmp(path, prefix, n) != 0)
        return false;
    const char *slash = strchr(path + n, '/');
    const char *end = slash ? strchr(slash + 1, '/') : NULL;
    if (!end || end - (path + n) >= 200)
        return false;
    snprintf(repo, 200, "%.*s", (int)(end - (path + n)), path + n);
    *rest = end + 1;
    return true;
}

static enum MHD_Result route(struct visit *v, struct MHD_Connection *c)
{
    char repo[200], folder[4096];
    const char *rest;
    bool in;
    bool api = split(v->path, "/api/models/", repo, &rest);
    bool in_store = !api && v->store && split(v->path, "/store/", repo, &rest);
    if (!api && !in_store && (v->store || !split(v->path, "/", repo, &rest)))
        return fail(v, c, 404, "", "nothing here");
    scenario_read(root, repo, &v->scenario);
    snprintf(folder, sizeof folder, "%s/%s", root, repo);
    if (access(folder, F_OK) != 0)
        return *v->token ? fail(v, c, 404, "RepoNotFound", "Repository not found")
                         : fail(v, c, 401, "RepoNotFound", "Invalid username or password.");
    if (in_store)
        return store(v, c, repo, rest);
    enum MHD_Result rc = guard(v, c, !api, &in);
    if (!in)
        return rc;
    if (api && !strncmp(rest, "revision/", 9)) {
        const char *revision = rest + 9;
        if (strcmp(revision, "main") != 0 && strcmp(revision, "refs/pr/1") != 0 &&
            strcmp(revision, v->scenario.commit) != 0)
            return fail(v, c, 404, "RevisionNotFound", "Invalid rev id");
        return info(v, c);
    }
    if (api && !strncmp(rest, "tree/", 5))
        return tree(v, c, repo);
    const char *path = strncmp(rest, "resolve/", 8) ? NULL : strchr(rest + 8, '/');
    if (!path)
        return fail(v, c, 404, "", "nothing here");
    return resolve(v, c, repo, path + 1);
}

// ---- libmicrohttpd

static void copy_header(struct MHD_Connection *c, const char *name, char *out, size_t cap)
{
    const char *v = MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
    snprintf(out, cap, "%s", v ? v : "");
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **state)
{
    (void)version;
    (void)data;
    if (!*state) {
        struct visit *v = calloc(1, sizeof *v);
        if (!v)
            return MHD_NO;
        v->store = user != NULL;
        v->fd = -1;
        snprintf(v->method, sizeof v->method, "%s", method);
        snprintf(v->path, sizeof v->path, "%s", url);
        *state = v;
        return MHD_YES;
    }
    *n = 0;
    struct visit *v = *state;
    copy_header(c, "Range", v->range, sizeof v->range);
    copy_header(c, "Authorization", v->token, sizeof v->token);
    return route(v, c);
}

static void on_end(void *user, struct MHD_Connection *c, void **state,
                   enum MHD_RequestTerminationCode how)
{
    struct visit *v = *state;
    (void)user;
    (void)c;
    if (!v)
        return;
    pthread_mutex_lock(&log_lock);
    fprintf(log_file,
            "{\"host\":\"%s\",\"method\":\"%s\",\"path\":\"%s\",\"range\":\"%s\",\"token\":\"%s\","
            "\"status\":%d,\"sent\":%llu,\"whole\":%s}\n",
            v->store ? "store" : "hub", v->method, v->path, v->range, v->token, v->status,
            (unsigned long long)v->sent,
            how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "true" : "false");
    fflush(log_file);
    pthread_mutex_unlock(&log_lock);
    if (v->fd >= 0)
        close(v->fd);
    free(v);
    *state = NULL;
}

static struct MHD_Daemon *start(bool is_store, const char *key, const char *certificate,
                                unsigned *port)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                     MHD_USE_POLL | (tls ? MHD_USE_TLS : 0);
    struct MHD_OptionItem secrets[] = {
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)certificate},
        {MHD_OPTION_END, 0, NULL}};
    if (!tls)
        secrets[0].option = MHD_OPTION_END;
    struct MHD_Daemon *d = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, is_store ? secrets : NULL, MHD_OPTION_NOTIFY_COMPLETED,
        on_end, NULL, MHD_OPTION_ARRAY, secrets, MHD_OPTION_END);
    const union MHD_DaemonInfo *i = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    *port = i ? i->port : 0;
    return d;
}

int main(int argc, char **argv)
{
    static char key[PEM_MAX], certificate[PEM_MAX];
    char pem[4096], byte;
    if (argc < 3) {
        fputs("usage: hubserver ROOT LOG [--tls]\n", stderr);
        return 2;
    }
    root = argv[1];
    tls = argc > 3 && !strcmp(argv[3], "--tls");
    log_file = fopen(argv[2], "a");
    snprintf(pem, sizeof pem, "%s.pem", argv[2]);
    FILE *f = tls ? fopen(pem, "w") : NULL;
    if (!log_file || (tls && (!f || !selfsigned_make(key, certificate)))) {
        fprintf(stderr, "hubserver: cannot start: %s\n", strerror(errno));
        return 1;
    }
    if (f) {
        fputs(certificate, f);
        fclose(f);
    }
    struct MHD_Daemon *hub = start(false, key, certificate, &port_hub);
    struct MHD_Daemon *other = start(true, key, certificate, &port_store);
    if (!hub || !other) {
        fputs("hubserver: no port can be had\n", stderr);
        return 1;
    }
    printf("{\"hub\":%u,\"store\":%u,\"certificate\":\"%s\"}\n", port_hub, port_store,
           tls ? pem : "");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    MHD_stop_daemon(hub);
    MHD_stop_daemon(other);
    fclose(log_file);
    return 0;
}

// SPDX-License-Identifier: MIT
// Requests to the hub's API.
//
//   GET  /api/models/ORG/REPO/revision/REV                 -> commit, base model
//   GET  /api/models/ORG/REPO/tree/COMMIT?recursive=true   -> files, page by page (Link: rel="next")
//   HEAD /ORG/REPO/resolve/COMMIT/PATH                     -> ETag, size, where the bytes are
//   wait before repetition k: 0.25 s * 2^k, at most 8 s, or Retry-After
//
// Easy to get wrong: a large file's ETag and size are on the redirect itself (X-Linked-*), those of the
// host behind it mean something else, so HEAD does not leave the hub; the hub answers 401 for a repository
// that does not exist, since it does not tell strangers what exists; a next page of another host would
// be a way to send us anywhere.
#include "hub/remote.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

static int url_begin(const struct remote *r, char url[HTTP_URL_MAX], const char *middle)
{
    return snprintf(url, HTTP_URL_MAX, "%s%s/%s", r->env->endpoint, middle, r->name->id) <
                   HTTP_URL_MAX
               ? 0
               : ERR_USAGE;
}

bool remote_wait(const struct remote *r, unsigned k, const struct http_reply *reply,
                 const char *why)
{
    char line[ERR_MSG_MAX + 64];
    double s = 0.25 * (double)(1u << (k < 5 ? k : 5));
    bool asked = reply->retry_after_s > 0;
    if (asked)
        s = reply->retry_after_s;
    if (s > REMOTE_WAIT_MAX)
        return false;
    snprintf(line, sizeof line, "%s; again in %.3g s%s", why, s,
             asked ? ", as the server asks" : "");
    if (r->say)
        r->say(r->user, line);
    for (double slept = 0; slept < s; slept += 0.05) {
        struct timespec piece = {.tv_nsec = 50000000};
        if (http_stopped(r->http))
            return false;
        (void)nanosleep(&piece, NULL);
    }
    return true;
}

// "; pages that grant access" for those who have none.
static void access_pages(const struct remote *r, char *out, size_t cap)
{
    int n = snprintf(out, cap, "ask for access on https://huggingface.co/%s", r->name->id);
    const char *base = r->base_model;
    if (!*base && !strncmp(r->name->id, "OpenGVLab/InternVideo2", 22) &&
        !strstr(r->name->id, "InternLM"))
        base =
            "mistralai/Mistral-7B-Instruct-v0.3"; // the card of the releases says so in words only
    if (*base && n > 0 && (size_t)n < cap)
        snprintf(out + n, cap - (size_t)n,
                 " (and on https://huggingface.co/%s, the language model inside it)", base);
}

int remote_refused(const struct remote *r, const struct http_reply *reply, const char *what,
                   struct err *e)
{
    char pages[400];
    const char *id = r->name->id, *from = r->env->token_from;
    bool gated = !strcmp(reply->error_code, "GatedRepo");
    long s = reply->status;
    access_pages(r, pages, sizeof pages);
    if (!reply->at_endpoint)
        return err_set(e, ERR_NETWORK, "%s: the host that stores the file answers HTTP %ld", what,
                       s);
    if (!from && (s == 401 || s == 403) && !strcmp(reply->error_code, "RepoNotFound"))
        return err_set(e, ERR_NETWORK,
                       "%s: HTTP %ld: no such repository, or a private one; for a private one set "
                       "HF_TOKEN",
                       id, s);
    if (!from && (s == 401 || s == 403))
        return err_set(e, ERR_NETWORK,
                       "%s: HTTP %ld: the files are given on request: %s, then set HF_TOKEN to a "
                       "token of that account (https://huggingface.co/settings/tokens)",
                       id, s, pages);
    if (s == 401 && !gated)
        return err_set(e, ERR_NETWORK,
                       "%s: HTTP 401: the hub does not accept the token of %s; make one on "
                       "https://huggingface.co/settings/tokens and set HF_TOKEN",
                       id, from);
    if (s == 401 || s == 403)
        return err_set(e, ERR_NETWORK,
                       "%s: HTTP %ld: the account of the token of %s has no access: %s, or set "
                       "HF_TOKEN to a token of an account that has (with read access to gated "
                       "repositories)",
                       id, s, from, pages);
    if (s == 404 && !strcmp(reply->error_code, "RevisionNotFound"))
        return err_set(e, ERR_NETWORK, "%s: HTTP 404: no branch, tag or commit \"%s\"", id,
                       r->name->revision);
    if (s == 404)
        return err_set(e, ERR_NETWORK, "%s: HTTP 404: not on %s", what, r->env->endpoint);
    if (s == 429)
        return err_set(e, ERR_NETWORK, "%s: HTTP 429: too many requests%s", what,
                       from ? "" : "; with a token in HF_TOKEN more are allowed");
    const char *text = reply->error_message, *token = r->env->token;
    if (token && strstr(text, token)) // a server that repeats what we sent
        text = "";
    return err_set(e, ERR_NETWORK, "%s: HTTP %ld%s%s", what, s, *text ? ": " : "", text);
}

int remote_request(struct remote *r, const struct http_request *q, const char *what,
                   struct http_reply *reply, struct err *e)
{
    struct err why = {0};
    for (unsigned k = 0;; k++) {
        int rc = http_perform(r->http, q, reply, &why);
        if (rc == 0 && reply->status >= 400)
            rc = remote_refused(r, reply, what, &why);
        if (rc == 0)
            return 0;
        if (rc != ERR_NETWORK || !reply->may_retry || k >= r->retries ||
            !remote_wait(r, k, reply, why.msg))
            return http_stopped(r->http) ? err_set(e, ERR_ABORT, "download stopped")
                                         : err_set(e, why.code, "%s", why.msg);
    }
}

// ---- JSON answers

static bool text_start(void *user, const struct http_reply *reply)
{
    struct buf *b = user;
    (void)reply;
    buf_reset(b); // of an attempt that broke off
    return true;
}

static bool text_body(void *user, const void *bytes, size_t n)
{
    return buf_add(user, bytes, n);
}

static int get_text(struct remote *r, const char *url, const char *what, struct buf *b,
                    struct http_reply *reply, struct err *e)
{
    struct http_request q = {.url = url, .user = b, .start = text_start, .body = text_body};
    b->max = LISTING_MAX_JSON;
    int rc = remote_request(r, &q, what, reply, e);
    if (rc == 0 && b->failed)
        return err_set(e, ERR_NETWORK, "%s: the hub's answer is longer than %d bytes", what,
                       LISTING_MAX_JSON);
    if (rc == 0 && reply->status / 100 != 2)
        return err_set(e, ERR_NETWORK, "%s: HTTP %ld", what, reply->status);
    return rc;
}

int remote_info(struct remote *r, struct repo_info *out, struct err *e)
{
    char url[HTTP_URL_MAX];
    struct http_reply reply;
    struct buf b = {0};
    int rc;
    memset(out, 0, sizeof *out);
    TRY(url_begin(r, url, "/api/models"));
    if (!http_append_encoded(url, sizeof url, "/revision/", 10, true) ||
        !http_append_encoded(url, sizeof url, r->name->revision, strlen(r->name->revision), false))
        TRY(err_set(e, ERR_USAGE, "%s: the revision is too long", r->name->id));
    TRY(get_text(r, url, r->name->id, &b, &reply, e));
    TRY(repo_info_parse(b.data ? b.data : "", b.len, r->name->id, out, e));
    if (repo_is_commit(r->name->revision) && strcmp(out->commit, r->name->revision) != 0)
        TRY(err_set(e, ERR_NETWORK, "%s: asked for commit %s, the hub answers with %s", r->name->id,
                    r->name->revision, out->commit));
    memcpy(r->base_model, out->base_model, sizeof r->base_model);
fail:
    buf_free(&b);
    return rc;
}

int remote_list(struct remote *r, const char *commit, struct listing *out, struct err *e)
{
    char url[HTTP_URL_MAX];
    struct http_reply reply;
    struct buf b = {0};
    int rc;
    memset(out, 0, sizeof *out);
    TRY(url_begin(r, url, "/api/models"));
    size_t n = strlen(url);
    snprintf(url + n, sizeof url - n, "/tree/%s?recursive=true", commit);
    for (int page = 0; *url; page++) {
        if (page >= 4096)
            TRY(err_set(e, ERR_NETWORK, "%s: the hub's list of files has no end (%d pages)",
                        r->name->id, page));
        buf_reset(&b);
        TRY(get_text(r, url, r->name->id, &b, &reply, e));
        TRY(listing_add_page(out, b.data ? b.data : "", b.len, r->name->id, e));
        if (*reply.next && !http_same_origin(reply.next, r->env->endpoint))
            TRY(err_set(e, ERR_NETWORK, "%s: the hub's list of files goes on at another host",
                        r->name->id));
        memcpy(url, reply.next, strlen(reply.next) + 1);
    }
    TRY(listing_finish(out, r->name->id, e));
fail:
    buf_free(&b);
    return rc;
}

static int check_place(const struct remote_file *f, struct http_reply *reply, const char *commit,
                       struct remote_place *out, struct err *e)
{
    char *etag = *reply->linked_etag ? reply->linked_etag : reply->etag;
    bool redirect = reply->status / 100 == 3;
    if (!repo_etag_clean(etag))
        return err_set(e, ERR_NETWORK, "%s: the hub names no usable ETag", f->path);
    memcpy(out->etag, etag, strlen(etag) + 1);
    out->size = f->size;
    if (reply->has_linked_size)
        out->size = reply->linked_size;
    else if (!redirect && reply->has_length)
        out->size = reply->length;
    if (out->size != f->size)
        return err_set(e, ERR_NETWORK, "%s: %llu bytes in the hub's list, %llu where the file lies",
                       f->path, (unsigned long long)f->size, (unsigned long long)out->size);
    const char *sum = *f->sha256 ? f->sha256 : f->oid;
    if (strcmp(sum, out->etag) != 0)
        return err_set(e, ERR_NETWORK,
                       "%s: checksum %.16s... in the hub's list, ETag %.16s... where the file lies",
                       f->path, sum, out->etag);
    if (*reply->commit && strcmp(reply->commit, commit) != 0)
        return err_set(e, ERR_NETWORK, "%s: asked for commit %.12s, the hub answers with %.12s",
                       f->path, commit, reply->commit);
    return 0;
}

int remote_locate(struct remote *r, const char *commit, const struct remote_file *f,
                  struct remote_place *out, struct err *e)
{
    char url[HTTP_URL_MAX];
    struct http_reply reply;
    struct http_request q = {.url = url, .head = true, .stay = true};
    int rc;
    memset(out, 0, sizeof *out);
    TRY(url_begin(r, url, ""));
    size_t n = strlen(url);
    snprintf(url + n, sizeof url - n, "/resolve/%s/", commit);
    if (!http_append_encoded(url, sizeof url, f->path, strlen(f->path), true))
        TRY(err_set(e, ERR_NETWORK, "%s: the name is too long", f->path));
    TRY(remote_request(r, &q, f->path, &reply, e));
    TRY(check_place(f, &reply, commit, out, e));
    memcpy(out->url, reply.location, sizeof out->url);
fail:
    return rc;
}

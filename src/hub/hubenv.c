// SPDX-License-Identifier: MIT
// The environment of the hub's own client.
//
//   HF_ENDPOINT                                      https://huggingface.co
//   HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub
//   HF_TOKEN, HUGGING_FACE_HUB_TOKEN, file HF_TOKEN_PATH, HF_HOME/token
//   HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_DISABLE_IMPLICIT_TOKEN
//   SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE
//
// Easy to get wrong: a token goes into a header line, so a line break inside it would forge headers; its
// memory is wiped before it is released; an error about it must not quote it.
#include "hub/hubenv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/filemap.h"
#include "base/mem.h"

enum { TOKEN_MAX = 4096, STALL_S = 30 };

// NULL when unset or empty.
static const char *variable(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static bool is_true(const char *name)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *v = variable(name);
    for (size_t i = 0; v && i < sizeof words / sizeof *words; i++) {
        if (!strcasecmp(v, words[i]))
            return true;
    }
    return false;
}

// path with a leading ~ replaced, and tail behind it; the caller's (mem_free). NULL = no memory or no HOME.
static char *expand(const char *path, const char *tail)
{
    struct buf b = {0};
    if (path[0] == '~' && (path[1] == '/' || !path[1])) {
        const char *home = variable("HOME");
        if (!home)
            return NULL;
        buf_add_str(&b, home);
        path++;
    }
    buf_add_str(&b, path);
    buf_add_str(&b, tail);
    return buf_take(&b);
}

// HF_HOME or its default, and tail behind it.
static char *below_home(const char *tail)
{
    const char *home = variable("HF_HOME"), *xdg = variable("XDG_CACHE_HOME");
    if (home)
        return expand(home, tail);
    char *base = expand(xdg ? xdg : "~/.cache", "/huggingface");
    char *path = base ? expand(base, tail) : NULL;
    mem_free(base);
    return path;
}

int hubenv_cache(const char *given, char **out, struct err *e)
{
    const char *path = given                      ? given
                       : variable("HF_HUB_CACHE") ? variable("HF_HUB_CACHE")
                                                  : variable("HUGGINGFACE_HUB_CACHE");
    *out = path ? expand(path, "") : below_home("/hub");
    if (!*out)
        return err_set(e, ERR_USAGE, "no folder for the hub's cache: set HF_HOME or HOME");
    return 0;
}

// Takes blanks and line ends away; NULL for what is empty then.
static int clean_token(const char *text, size_t n, const char *from, char **out, struct err *e)
{
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        n--;
    while (n > 0 && strchr(" \t\r\n", *text)) {
        text++;
        n--;
    }
    *out = NULL;
    if (n == 0)
        return 0;
    if (n > TOKEN_MAX)
        return err_set(e, ERR_USAGE, "%s: %zu bytes are no token", from, n);
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return err_set(e, ERR_USAGE, "%s: a token has no blanks and no control characters",
                           from);
    }
    *out = mem_strndup(text, n);
    return *out ? 0 : err_set(e, ERR_LIMIT, "out of memory for the token");
}

static int token_of_file(struct hubenv *h, struct err *e)
{
    const char *named = variable("HF_TOKEN_PATH");
    char *path = named ? expand(named, "") : below_home("/token"), *text = NULL;
    struct stat st;
    size_t n;
    int rc = 0;
    if (path && stat(path, &st) == 0) {
        TRY(file_read(path, TOKEN_MAX + 16, ERR_USAGE, &text, &n, e));
        TRY(clean_token(text, n, path, &h->token, e));
        h->token_from = "the token file";
    }
fail:
    if (text)
        memset(text, 0, n);
    mem_free(text);
    mem_free(path);
    return rc;
}

static int find_token(struct hubenv *h, struct err *e)
{
    static const char *const names[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
    if (is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
        return 0;
    for (size_t i = 0; i < 2; i++) {
        const char *v = variable(names[i]);
        int rc = v ? clean_token(v, strlen(v), names[i], &h->token, e) : 0;
        if (rc != 0)
            return rc;
        if (h->token) {
            h->token_from = names[i];
            return 0;
        }
    }
    return token_of_file(h, e);
}

static int find_endpoint(const char *given, char **out, struct err *e)
{
    const char *v = given ? given : variable("HF_ENDPOINT");
    if (!v)
        v = "https://huggingface.co";
    size_t n = strlen(v);
    while (n > 0 && v[n - 1] == '/')
        n--;
    if (n > 512)
        return err_set(e, ERR_USAGE, "HF_ENDPOINT: an address of %zu bytes", n);
    *out = mem_strndup(v, n);
    return *out ? 0 : err_set(e, ERR_LIMIT, "out of memory for an address");
}

int hubenv_read(const char *endpoint, const char *cache, struct hubenv *h, struct err *e)
{
    static const char *const ca_names[] = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"};
    int rc;
    memset(h, 0, sizeof *h);
    h->offline = is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE");
    h->stall_s = STALL_S;
    const char *stall = variable("HF_HUB_DOWNLOAD_TIMEOUT");
    if (stall) {
        char *end;
        double s = strtod(stall, &end);
        if (*end || !(s >= 1 && s <= 86400))
            TRY(err_set(e, ERR_USAGE, "HF_HUB_DOWNLOAD_TIMEOUT \"%.40s\": expected 1 to 86400 s",
                        stall));
        h->stall_s = (unsigned)s;
    }
    for (size_t i = 0; i < 3 && !h->ca_file; i++) {
        const char *v = variable(ca_names[i]);
        if (v && !(h->ca_file = mem_strndup(v, strlen(v))))
            TRY(err_set(e, ERR_LIMIT, "out of memory for %s", ca_names[i]));
    }
    TRY(find_endpoint(endpoint, &h->endpoint, e));
    TRY(hubenv_cache(cache, &h->cache, e));
    TRY(find_token(h, e));
fail:
    return rc;
}

void hubenv_free(struct hubenv *h)
{
    if (h->token) {
        volatile char *p = h->token; // a plain memset before free may be dropped
        while (*p)
            *p++ = 0;
    }
    mem_free(h->token);
    mem_free(h->endpoint);
    mem_free(h->cache);
    mem_free(h->ca_file);
    memset(h, 0, sizeof *h);
}

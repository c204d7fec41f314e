// SPDX-License-Identifier: MIT
// API keys. Only their SHA-256 are kept, and each is compared with each in full.
//
// Easy to get wrong: a key on the command line would be seen in the list of processes, so an argument is always a file;
// a browser's page cannot send Bearer with its first request, so the password of Basic counts as well.

#include "apikeys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "heap.h"
#include "mediaref.h"
#include "savefile.h"

enum { FILE_MAX = 1 << 20 };

static void wipe(void *p, size_t n)
{
    volatile char *v = p;
    while (n-- > 0)
        *v++ = 0;
}

static int add(struct apikeys *k, const char *key, size_t n, const char *from, struct iv_error *e)
{
    if (k->n == APIKEYS_MAX)
        return app_error(e, IV_ERR_USAGE, "--api-key %s: more than %d keys", from, APIKEYS_MAX);
    if (n > APIKEY_BYTES)
        return app_error(e, IV_ERR_USAGE,
                         "--api-key %s: key %zu has %zu characters, at most %d are possible", from,
                         k->n + 1, n, APIKEY_BYTES);
    for (size_t i = 0; i < n; i++) {
        if (key[i] <= ' ' || key[i] > '~')
            return app_error(e, IV_ERR_USAGE,
                             "--api-key %s: key %zu holds a blank or a character outside ASCII",
                             from, k->n + 1);
    }
    if (!digest_bytes(key, n, k->digest[k->n]))
        return app_error(e, IV_ERR_LIMIT, "--api-key: out of memory");
    k->n++;
    return IV_OK;
}

int apikeys_add(struct apikeys *k, char *text, size_t n, const char *from, struct iv_error *e)
{
    int rc = IV_OK;
    for (size_t at = 0; at < n && rc == IV_OK;) {
        const char *line = text + at, *end = memchr(line, '\n', n - at);
        size_t len = end ? (size_t)(end - line) : n - at;
        at += len + 1;
        while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
            len--;
        if (len > 0 && line[0] != '#')
            rc = add(k, line, len, from, e);
    }
    wipe(text, n);
    if (rc == IV_OK && k->n == 0)
        rc = app_error(e, IV_ERR_USAGE, "--api-key %s: holds no key", from);
    return rc;
}

static int read_stream(struct apikeys *k, FILE *f, const char *from, struct iv_error *e)
{
    char *text = heap_calloc(FILE_MAX, 1);
    if (!text)
        return app_error(e, IV_ERR_LIMIT, "--api-key: out of memory");
    size_t n = fread(text, 1, FILE_MAX, f);
    int rc = ferror(f) ? app_error(e, IV_ERR_USAGE, "--api-key %s: %s", from, strerror(errno))
             : n == FILE_MAX
                 ? app_error(e, IV_ERR_USAGE, "--api-key %s: larger than %d bytes", from, FILE_MAX)
                 : apikeys_add(k, text, n, from, e);
    wipe(text, n);
    heap_free(text);
    return rc;
}

int apikeys_read(struct apikeys *k, const char *value, bool from_environment, struct iv_error *e)
{
    if (strcmp(value, "-") == 0)
        return read_stream(k, stdin, "standard input", e);
    FILE *f = fopen(value, "re");
    if (f) {
        int rc = read_stream(k, f, value, e);
        (void)fclose(f);
        return rc;
    }
    if (!from_environment || strchr(value, '/'))
        return app_error(e, IV_ERR_USAGE, "--api-key: cannot read the file: %s", strerror(errno));
    return add(k, value, strlen(value), "of IVCHAT_API_KEY", e);
}

static unsigned holder(const struct apikeys *k, const char *key, size_t n)
{
    uint8_t digest[DIGEST_BYTES];
    unsigned found = 0;
    if (n > APIKEY_BYTES || !digest_bytes(key, n, digest))
        return 0;
    for (size_t i = 0; i < k->n; i++) { // all of them, found or not
        bool same = digest_equal(digest, k->digest[i]);
        found = same ? (unsigned)i + 1 : found;
    }
    return found;
}

static unsigned basic_holder(const struct apikeys *k, const char *text)
{
    uint8_t plain[2 * APIKEY_BYTES];
    size_t n = strlen(text);
    if (base64_room(n) > sizeof plain)
        return 0;
    ptrdiff_t len = base64_decode(text, n, plain);
    const uint8_t *colon = len > 0 ? memchr(plain, ':', (size_t)len) : NULL;
    unsigned found = 0;
    if (colon)
        found = holder(k, (const char *)colon + 1, (size_t)(plain + len - colon - 1));
    wipe(plain, sizeof plain);
    return found;
}

unsigned apikeys_holder(const struct apikeys *k, const char *authorization, const char *x_api_key)
{
    if (k->n == 0)
        return 1;
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0) {
        authorization += 7;
        authorization += strspn(authorization, " ");
        return holder(k, authorization, strcspn(authorization, " "));
    }
    if (authorization && strncasecmp(authorization, "Basic ", 6) == 0)
        return basic_holder(k, authorization + 6);
    return x_api_key ? holder(k, x_api_key, strlen(x_api_key)) : 0;
}

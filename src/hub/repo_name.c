// SPDX-License-Identifier: MIT
// Checks of names, by what a file system and a URL make of them. The rules for repositories are those of
// the hub: letters, digits, '-', '_', '.'; no "--" (it separates the parts of a folder in the cache), no
// "..", nothing but a letter, digit or '_' at either end.
// Easy to get wrong: a revision has slashes too ("refs/pr/1") and becomes a path below refs/.
#include "hub/repo_name.h"

#include <string.h>

#include "base/visible.h"

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_hex(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
    }
    return strlen(s) == n;
}

bool repo_is_commit(const char *text)
{
    return strlen(text) == 40 && is_hex(text, 40);
}

bool repo_is_sha256(const char *text)
{
    return strlen(text) == 64 && is_hex(text, 64);
}

static bool good_part(const char *s, size_t n)
{
    if (n == 0 || !is_word(s[0]) || !is_word(s[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++) {
        bool mark = s[i] == '-' || s[i] == '.';
        if (!mark && !is_word(s[i]))
            return false;
        if (mark && s[i + 1] == s[i])
            return false;
    }
    return true;
}

static bool good_id(const char *s, size_t n)
{
    const char *slash = memchr(s, '/', n);
    if (!slash || n > REPO_ID_MAX)
        return false;
    size_t org = (size_t)(slash - s);
    return good_part(s, org) && good_part(slash + 1, n - org - 1) &&
           !(n > 4 && !memcmp(s + n - 4, ".git", 4));
}

bool repo_name_is(const char *text)
{
    return good_id(text, strcspn(text, "@:"));
}

bool repo_path_is_safe(const char *path, size_t n)
{
    char shown[REPO_PATH_MAX];
    if (n == 0 || n >= REPO_PATH_MAX || memchr(path, 0, n))
        return false;
    for (size_t at = 0; at <= n;) {
        const char *name = path + at;
        const char *slash = memchr(name, '/', n - at);
        size_t len = slash ? (size_t)(slash - name) : n - at;
        if (len == 0 || len > 255 || (len == 1 && name[0] == '.') ||
            (len == 2 && name[0] == '.' && name[1] == '.'))
            return false;
        if (len >= 2 && name[1] == ':' && is_word(name[0]))
            return false; // a drive, to those who read the cache from elsewhere
        at += len + 1;
    }
    if (memchr(path, '\\', n))
        return false;
    memcpy(shown, path, n);
    shown[n] = 0;
    // what a message would have to escape has no place in a name either
    char escaped[4 * REPO_PATH_MAX];
    return visible_copy(escaped, sizeof escaped, shown) == n && !memcmp(escaped, path, n);
}

int repo_name_parse(const char *text, struct repo_name *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    size_t n = strcspn(text, "@:");
    if (!good_id(text, n))
        return err_set(e, ERR_USAGE, "\"%.120s\": expected ORG/REPO, as on the hub", text);
    if (text[n] == ':')
        return err_set(e, ERR_USAGE,
                       "\"%.120s\": :TYPE chooses a file that is there already, for -m; here name "
                       "ORG/REPO",
                       text);
    memcpy(out->id, text, n);
    memcpy(out->revision, "main", 5);
    if (!text[n])
        return 0;
    const char *revision = text + n + 1;
    size_t len = strlen(revision);
    if (len > REPO_REVISION_MAX || !repo_path_is_safe(revision, len) ||
        strpbrk(revision, " ~^:?*["))
        return err_set(e, ERR_USAGE, "\"%.120s\": what follows @ is no branch, tag or commit",
                       text);
    memcpy(out->revision, revision, len + 1);
    out->has_revision = true;
    return 0;
}

bool repo_etag_clean(char *etag)
{
    char *s = etag;
    if (!strncmp(s, "W/", 2))
        s += 2;
    size_t n = strlen(s);
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
        s++;
        n -= 2;
    }
    bool good = n > 0 && n <= REPO_ETAG_MAX && is_word(s[0]);
    for (size_t i = 0; i < n && good; i++)
        good = is_word(s[i]) || s[i] == '-' || s[i] == '.';
    memmove(etag, s, n);
    etag[good ? n : 0] = 0;
    return good;
}

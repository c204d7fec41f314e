// SPDX-License-Identifier: MIT
// Names that a person or a hub gives, before they become paths and addresses.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/choose.h"
#include "hub/http.h"
#include "hub/hubcache.h"
#include "hub/repo_name.h"

static void names_of_repositories(void **state)
{
    static const char *const bad[] = {
        "",     "a",        "a/",     "/a",      "a/b/c",   "../b",   "a/..",       ".a/b",
        "a/b.", "a-/b",     "a/-b",   "a--b/c",  "a/b..c",  "a b/c",  "a/b.git",    "a\\b/c",
        "a/b@", "a/b@../c", "a/b@/c", "a/b@c d", "a/b@c:d", "a/b:Q8", "\xc3\xa4/b", "a/b@\x01"};
    struct repo_name n;
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (repo_name_parse(bad[i], &n, &e) != ERR_USAGE)
            fail_msg("%s was accepted", bad[i]);
    }
    assert_int_equal(repo_name_parse("OpenGVLab/InternVideo2_chat_8B_HD", &n, &e), 0);
    assert_string_equal(n.revision, "main");
    assert_false(n.has_revision);
    assert_int_equal(repo_name_parse("a.b-c/D_1@refs/pr/1", &n, &e), 0);
    assert_string_equal(n.id, "a.b-c/D_1");
    assert_string_equal(n.revision, "refs/pr/1");
    char longest[120];
    memset(longest, 'x', sizeof longest);
    longest[5] = '/';
    longest[REPO_ID_MAX] = 0;
    assert_int_equal(repo_name_parse(longest, &n, &e), 0);
    longest[REPO_ID_MAX] = 'x';
    longest[REPO_ID_MAX + 1] = 0;
    assert_int_equal(repo_name_parse(longest, &n, &e), ERR_USAGE);
}

static void paths_of_files(void **state)
{
    static const char *const good[] = {
        "a", "a/b/c.txt", ".gitattributes", "a..b", "x y", "\xc3\xa4.json", "..."};
    static const char *const bad[] = {"",
                                      "/a",
                                      "a/",
                                      "a//b",
                                      ".",
                                      "..",
                                      "a/../b",
                                      "a/.",
                                      "a\\b",
                                      "C:x",
                                      "a/c:/b",
                                      "a\nb",
                                      "a\x7f",
                                      "\xff",
                                      "a\xe2\x80\xae"
                                      "b"};
    char longest[REPO_PATH_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!repo_path_is_safe(good[i], strlen(good[i])))
            fail_msg("%s was refused", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (repo_path_is_safe(bad[i], strlen(bad[i])))
            fail_msg("%s was accepted", bad[i]);
    }
    assert_false(repo_path_is_safe("a\0b", 3));
    memset(longest, 'x', sizeof longest);
    assert_true(repo_path_is_safe(longest, 255));
    assert_false(repo_path_is_safe(longest, 256));
    for (size_t i = 100; i < sizeof longest; i += 100)
        longest[i] = '/';
    assert_true(repo_path_is_safe(longest, REPO_PATH_MAX - 1));
    assert_false(repo_path_is_safe(longest, REPO_PATH_MAX));
}

static void etags(void **state)
{
    char weak[] = "W/\"abc\"", plain[] = "abc", empty[] = "\"\"", path[] = "\"../x\"",
         dots[] = "\"..\"", slash[] = "a/b";
    (void)state;
    assert_true(repo_etag_clean(weak));
    assert_string_equal(weak, "abc");
    assert_true(repo_etag_clean(plain));
    assert_false(repo_etag_clean(empty) || repo_etag_clean(path) || repo_etag_clean(dots) ||
                 repo_etag_clean(slash));
    assert_string_equal(path, "");
}

static void entries_of_the_cache(void **state)
{
    char id[REPO_ID_MAX + 1];
    (void)state;
    assert_true(cache_repo_id("models--a--b-c", id));
    assert_string_equal(id, "a/b-c");
    assert_false(cache_repo_id("models--a", id) || cache_repo_id("datasets--a--b", id) ||
                 cache_repo_id("models--a--b--c", id) || cache_repo_id("models--..--b", id));
}

static void choice_of_files(void **state)
{
    static const char *const json[] = {"*.json", "sub/"}, *const not_tok[] = {"tok*"};
    struct choice usual = {0}, mine = {json, not_tok, 2, 1};
    (void)state;
    assert_true(choice_wants(&usual, "model-00001-of-00004.safetensors"));
    assert_true(choice_wants(&usual, "tokenizer.model"));
    assert_false(choice_wants(&usual, "consolidated.safetensors"));
    assert_false(choice_wants(&usual, "sub/config.json"));
    assert_false(choice_wants(&usual, "model-x/y.safetensors"));
    assert_false(choice_wants(&usual, "modeling.py"));
    assert_true(choice_wants(&mine, "a/b.json"));
    assert_true(choice_wants(&mine, "sub/anything"));
    assert_false(choice_wants(&mine, "tokenizer.json"));
    const char *const below[] = {"a*/"};
    struct choice folders = {below, NULL, 1, 0};
    assert_true(choice_wants(&folders, "ab/c/d"));
    assert_false(choice_wants(&folders, "ba/c"));
    assert_false(choice_wants(&folders, "ab"));
    assert_false(choice_wants(&mine, "model.safetensors"));
}

static void origins(void **state)
{
    (void)state;
    assert_true(http_same_origin("https://h.co/a", "HTTPS://H.co:443/b?c"));
    assert_true(http_same_origin("http://h/", "http://h:80"));
    assert_false(http_same_origin("https://h.co/", "http://h.co/"));
    assert_false(http_same_origin("https://h.co/", "https://h.co:444/"));
    assert_false(http_same_origin("https://h.co/", "https://h.co.evil/"));
    assert_false(http_same_origin("https://h.co/", "https://h.co@evil/"));
    assert_false(http_same_origin("https://h.co/", "https://user@h.co/"));
    assert_false(http_same_origin("file:///etc", "file:///etc"));
    assert_false(http_same_origin("", ""));
}

static void encoding(void **state)
{
    char url[32] = "x/";
    (void)state;
    assert_true(http_append_encoded(url, sizeof url, "a b/\xc3", 5, true));
    assert_string_equal(url, "x/a%20b/%C3");
    assert_true(http_append_encoded(url, sizeof url, "/", 1, false));
    assert_string_equal(url, "x/a%20b/%C3%2F");
    assert_false(http_append_encoded(url, sizeof url, "0123456789012345", 16, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_repositories),
        cmocka_unit_test(paths_of_files),
        cmocka_unit_test(etags),
        cmocka_unit_test(entries_of_the_cache),
        cmocka_unit_test(choice_of_files),
        cmocka_unit_test(origins),
        cmocka_unit_test(encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

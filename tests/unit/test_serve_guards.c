// SPDX-License-Identifier: MIT
// Guards of the server: URLs in every spelling, addresses of every range, base64, forms.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "chatreq.h"
#include "heap.h"
#include "httpguard.h"
#include "mediaref.h"
#include "multipart.h"
#include "textbuf.h"
#include "urlguard.h"

static bool is_public(const char *text)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
        return address_public((const struct sockaddr *)(const void *)&four);
    assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
    return address_public((const struct sockaddr *)(const void *)&six);
}

static void test_addresses(void **state)
{
    static const char *const closed[] = {"0.0.0.0",
                                         "0.1.2.3",
                                         "10.0.0.1",
                                         "10.255.255.255",
                                         "100.64.0.1",
                                         "100.127.255.255",
                                         "127.0.0.1",
                                         "127.255.255.255",
                                         "169.254.169.254",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.0.0.1",
                                         "192.0.2.1",
                                         "192.88.99.1",
                                         "192.168.0.1",
                                         "198.18.0.1",
                                         "198.19.255.255",
                                         "198.51.100.1",
                                         "203.0.113.1",
                                         "224.0.0.1",
                                         "239.1.1.1",
                                         "240.0.0.1",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "::ffff:127.0.0.1",
                                         "::ffff:8.8.8.8",
                                         "::127.0.0.1",
                                         "64:ff9b::7f00:1",
                                         "100::1",
                                         "2001::1",
                                         "2001:10::1",
                                         "2001:db8::1",
                                         "2002:7f00:1::",
                                         "3fff::1",
                                         "fc00::1",
                                         "fd12::1",
                                         "fe80::1",
                                         "fec0::1",
                                         "ff02::1"};
    static const char *const open[] = {
        "1.1.1.1",         "8.8.8.8",         "100.63.255.255", "100.128.0.0",    "172.15.0.1",
        "172.32.0.1",      "192.0.1.1",       "192.167.1.1",    "198.17.0.1",     "198.20.0.1",
        "223.255.255.255", "2606:4700::1111", "2a00:1450::1",   "2001:4860::8888"};
    (void)state;
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++) {
        if (is_public(closed[i]))
            fail_msg("%s counts as public", closed[i]);
    }
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
        if (!is_public(open[i]))
            fail_msg("%s does not count as public", open[i]);
    }
}

static void test_urls(void **state)
{
    static const char *const bad[] = {"http://example.com/",
                                      "https://",
                                      "https:///x",
                                      "https://user@example.com/",
                                      "https://example.com\\@evil/",
                                      "https://example.com:0/",
                                      "https://example.com:65536/",
                                      "https://example.com:/",
                                      "https://example.com:80:80/",
                                      "https://exa mple.com/",
                                      "https://example.com/\n",
                                      "https://\xc3\xa9.example/",
                                      "https://127.1/",
                                      "https://2130706433/",
                                      "https://0x7f000001/",
                                      "https://0177.0.0.1/",
                                      "https://1.2.3.04/",
                                      "https://1.2.3/",
                                      "https://256.1.1.1/",
                                      "https://a..b/",
                                      "https://.a/",
                                      "https://a./",
                                      "https://-a.b/",
                                      "https://a-.b/",
                                      "https://a.1b/",
                                      "https://[::1/",
                                      "https://[::1%25lo]/",
                                      "https://[zz]/",
                                      "https://::1/",
                                      "https://a%2eb/",
                                      "https://a#b",
                                      "https://a@b",
                                      "https://a{b}/",
                                      "HTTPS:/a",
                                      "https://1.1.1.1.1/"};
    static const char *const good[][2] = {
        {"https://Example.COM", "https://example.com:443/"},
        {"HTTPS://a-b.c/d?e#f", "https://a-b.c:443/d?e"},
        {"https://a.b:444?q", "https://a.b:444/?q"},
        {"https://8.8.8.8/x", "https://8.8.8.8:443/x"},
        {"https://[2606:4700::1]/x", "https://[2606:4700::1]:443/x"}};
    struct url u;
    char text[512];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (url_read(&u, bad[i], strlen(bad[i])))
            fail_msg("%s is accepted", bad[i]);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(url_read(&u, good[i][0], strlen(good[i][0])));
        assert_true(url_write(&u, text, sizeof text));
        assert_string_equal(text, good[i][1]);
    }
    assert_true(url_read(&u, "https://a.example:444/", 22));
    assert_true(url_allowed(&u, "b.example, A.example:444"));
    assert_false(url_allowed(&u, "a.example"));
    assert_false(url_allowed(&u, "xa.example:444,a.example:4444"));
    assert_false(url_allowed(&u, ""));
    assert_false(url_allowed(&u, NULL));
}

static void test_base64(void **state)
{
    uint8_t bytes[300], back[512];
    char text[512];
    (void)state;
    for (size_t n = 0; n < 256; n++) {
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(i * 37 + n);
        base64_encode(bytes, n, text);
        assert_int_equal(base64_decode(text, strlen(text), back), (int)n);
        assert_memory_equal(back, bytes, n);
        size_t bare = strcspn(text, "=");
        assert_int_equal(base64_decode(text, bare, back), (int)n);
    }
    static const char *const bad[] = {
        "A", "AB=", "AB===", "A===", "AB==CD==", "A*==", "AR==", "ABF=", "="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (base64_decode(bad[i], strlen(bad[i]), back) >= 0)
            fail_msg("%s is accepted", bad[i]);
    }
}

static void test_forms(void **state)
{
    static const char body[] =
        "--B\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n"
        "--B\r\nContent-Disposition: form-data; name=\"v\"; filename=\"a/b.mp4\"\r\n\r\n"
        "--B--\r\n";
    struct multipart_file f;
    (void)state;
    assert_true(multipart_read(&f, "multipart/form-data; boundary=B", body, sizeof body - 1));
    assert_string_equal(f.name, "b.mp4");
    assert_int_equal(f.n, 0); // "--B" right behind the headers is the next mark
    static const char plain[] =
        "--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nxx\r\n--B--";
    assert_true(multipart_read(&f, "multipart/form-data; boundary=\"B\"", plain, sizeof plain - 1));
    assert_int_equal(f.n, 2);
    for (size_t n = 0; n < sizeof plain - 3; n++)
        assert_false(multipart_read(&f, "multipart/form-data; boundary=B", plain, n));
    assert_false(multipart_read(&f, "multipart/form-data", plain, sizeof plain - 1));
    assert_false(multipart_read(&f, "multipart/form-data; boundary=C", plain, sizeof plain - 1));
}

// Two of a mebibyte a turn, then one of `last` bytes.
static int read_chat(size_t n_turn, size_t last, struct refusal *r)
{
    struct textbuf b = {0};
    struct chatreq q;
    char *text = heap_calloc(CHATREQ_TEXT_MAX + 1, 1);
    assert_non_null(text);
    memset(text, 'x', CHATREQ_TEXT_MAX + 1);
    textbuf_str(&b, "{\"messages\":[");
    for (size_t i = 0; i <= 2 * n_turn; i++) {
        textbuf_printf(&b, "%s{\"role\":\"%s\",\"content\":\"", i ? "," : "",
                       i % 2 ? "assistant" : "user");
        textbuf_add(&b, text, i < 2 * n_turn ? CHATREQ_TEXT_MAX : last);
        textbuf_str(&b, "\"}");
    }
    textbuf_str(&b, "]}");
    assert_false(b.failed);
    int rc = chatreq_read(&q, b.data, b.len, r);
    if (rc == 0)
        chatreq_free(&q);
    textbuf_free(&b);
    heap_free(text);
    return rc;
}

static void test_texts(void **state)
{
    struct refusal r = {0};
    (void)state;
    assert_int_equal(read_chat(4, 0, &r), 0);
    assert_int_equal(read_chat(3, CHATREQ_TEXT_MAX, &r), 0);
    assert_int_equal(read_chat(4, 1, &r), -1);
    assert_true(r.status == 400 && strcmp(r.code, "string_above_max_length") == 0);
    assert_string_equal(r.message, "messages: more than 8388608 bytes of text in all");
    assert_int_equal(read_chat(0, CHATREQ_TEXT_MAX + 1, &r), -1);
    assert_non_null(strstr(r.message, "more than 1048576 bytes of text"));
}

static const int64_t S = 1000000000;

static void test_pace(void **state)
{
    struct httppace head = {.phase = HTTPPHASE_HEAD, .since_ns = 7 * S}, p;
    (void)state;
    assert_false(httppace_slow(&head, (7 + HTTPPACE_HEAD_S) * S));
    assert_true(httppace_slow(&head, (8 + HTTPPACE_HEAD_S) * S));
    p = (struct httppace){.phase = HTTPPHASE_WORK};
    assert_false(httppace_slow(&p, 100000 * S));
    p = (struct httppace){.phase = HTTPPHASE_BODY, .received = 256 << 20};
    for (int64_t at = 0; at <= HTTPPACE_BODY_S; at++)
        assert_false(httppace_slow(&p, at * S));
    assert_false(httppace_slow(&p, (HTTPPACE_BODY_S + 1) * S)); // much in the first stretch
    p.received += 10;
    assert_false(httppace_slow(&p, (2 * HTTPPACE_BODY_S + 1) * S));
    assert_true(httppace_slow(&p, (2 * HTTPPACE_BODY_S + 2) * S)); // nearly nothing in the next one
    p = (struct httppace){.phase = HTTPPHASE_BODY};
    for (int64_t at = 0; at < 1000; at++) {
        p.received += HTTPPACE_BODY_RATE + 1;
        assert_false(httppace_slow(&p, at * S));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pace),      cmocka_unit_test(test_texts),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_urls),
        cmocka_unit_test(test_base64),    cmocka_unit_test(test_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// URLs that a server is asked to fetch: what is read is written again to the same reading.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "httpguard.h"
#include "mediaref.h"
#include "urlguard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct url u, again;
    struct mediaref m = {0};
    struct refusal r;
    char text[8192];
    if (url_read(&u, (const char *)data, n) && url_write(&u, text, sizeof text)) {
        if (!url_read(&again, text, strlen(text)) || strcmp(u.host, again.host) != 0 ||
            u.port != again.port || strpbrk(u.host, "@\\/%# "))
            abort();
        (void)url_allowed(&u, "example.com, example.org:444");
    }
    if (mediaref_url(&m, (const char *)data, n, &r) == 0 && m.from == MEDIAREF_FILE &&
        memchr(m.text, 0, m.n))
        abort();
    mediaref_free(&m);
    if (n < sizeof text) {
        memcpy(text, data, n);
        text[n] = 0;
        const struct httprules rules = {"127.0.0.1", "https://a.example", true, 1000};
        const struct httphead head = {text, text, text, NULL, 1, 1};
        (void)httpguard_check(&head, &rules, &r);
    }
    return 0;
}

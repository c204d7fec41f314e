// SPDX-License-Identifier: MIT
#include "golden_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"

void compare_rows(struct golden *g, const js_value *c,
                  bool (*fn)(void *user, const js_value *row, char *why, size_t cap), void *user)
{
    char path[4400], why[256], first[256] = "";
    char *text;
    size_t n, n_row = 0, n_bad = 0;
    struct err e;
    const char *file = js_str(js_get(js_at(js_get(c, "files"), 0), "file"), NULL);
    if (file_read(golden_path(g, file, path, sizeof path), 1 << 24, ERR_FAIL, &text, &n, &e) != 0) {
        report_result(g, golden_id(c), "rows", false, "%s", e.msg);
        return;
    }
    for (char *line = text; line < text + n;) {
        char *end = memchr(line, '\n', (size_t)(text + n - line));
        size_t len = end ? (size_t)(end - line) : (size_t)(text + n - line);
        struct js_doc doc;
        if (len > 0) {
            n_row++;
            snprintf(why, sizeof why, "row %zu", n_row);
            if (js_parse(&doc, line, len, file, ERR_FAIL, &e) != 0)
                n_bad++;
            else if (!fn(user, doc.root, why, sizeof why) && n_bad++ == 0)
                snprintf(first, sizeof first, "; row %zu: %.200s", n_row, why);
            js_free(&doc);
        }
        line += len + 1;
    }
    free(text);
    report_result(g, golden_id(c), "rows", n_bad == 0 && n_row > 0, "%zu of %zu rows equal%s",
                  n_row - n_bad, n_row, first);
}

// SPDX-License-Identifier: MIT
// Test files are assembled in a growable buffer; the element sizes are written out here a second time,
// so that the reader is not checked against its own table.
#include "st_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

const char *st_write(const struct tempdir *d, const char *name, const char *header, size_t n_data)
{
    struct buf b = {0};
    uint64_t len = strlen(header);
    buf_add(&b, &len, sizeof len); // hosts are little-endian
    buf_add_str(&b, header);
    for (size_t i = 0; i < n_data; i++)
        buf_add(&b, &(uint8_t){(uint8_t)i}, 1);
    assert_false(b.failed);
    const char *path = tempdir_write(d, name, b.data, b.len);
    buf_free(&b);
    return path;
}

static size_t element_bytes(const char *dtype)
{
    return strstr(dtype, "64") ? 8 : strstr(dtype, "32") ? 4 : strstr(dtype, "16") ? 2 : 1;
}

const char *st_write_specs(const struct tempdir *d, const char *name, const struct st_spec *t,
                           size_t n)
{
    struct buf b = {0};
    size_t at = 0;
    buf_add_str(&b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        size_t bytes = element_bytes(t[i].dtype);
        buf_printf(&b, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t[i].name, t[i].dtype);
        for (unsigned k = 0; k < t[i].rank; k++) {
            buf_printf(&b, "%s%zu", k ? "," : "", t[i].dim[k]);
            bytes *= t[i].dim[k];
        }
        buf_printf(&b, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
        at += bytes;
    }
    buf_add_str(&b, "}");
    while (b.len % 8 != 0)
        buf_add_str(&b, " ");
    assert_false(b.failed);
    const char *path = st_write(d, name, b.data, at);
    buf_free(&b);
    return path;
}

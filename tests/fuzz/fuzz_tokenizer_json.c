// SPDX-License-Identifier: MIT
// tokenizer.json from anywhere. Refused with a message, or a tokenizer that encodes and decodes.
#include <stdint.h>
#include <string.h>

#include "text/detok.h"
#include "text/tokenizer.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char text[] = "abc [INST] a  b\xC3\xA9\n</s>\xFF";
    struct tokenizer *t;
    struct err e = {0};
    int rc = tokenizer_open_json((const char *)data, n, "f", &t, &e);
    if (rc != 0) {
        require(rc == ERR_MODEL && e.code == rc && e.msg[0] && !t);
        return 0;
    }
    struct ids ids = {0};
    struct buf out = {0};
    for (int special = 0; special < 2; special++) {
        struct text_span span = {text, sizeof text - 1, special};
        ids_reset(&ids);
        require(tokenizer_encode(t, &span, 1, &ids, &e) == 0 && ids.n >= 2);
        for (size_t i = 0; i < ids.n; i++) {
            size_t len;
            require(tokenizer_piece(t, ids.v[i], &len) && len);
            require(i == 0 || special || !tokenizer_is_added(t, ids.v[i]));
        }
        require(tokenizer_decode(t, ids.v, ids.n, &out, &e) == 0);
    }
    require(utf8_valid(out.data, out.len));
    ids_free(&ids);
    buf_free(&out);
    tokenizer_close(t);
    return 0;
}

// SPDX-License-Identifier: MIT
// The body of a chat: messages, media in every spelling, numbers.
#include <stdlib.h>

#include "chatreq.h"
#include "heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct chatreq q;
    struct refusal r = {0};
    if (chatreq_read(&q, (const char *)data, n, &r) == 0) {
        if (q.n_turn < 1 || q.turn[q.n_turn - 1].answer || !q.turn[q.n_turn - 1].question ||
            q.n_choice < 1 || q.n_choice > CHATREQ_CHOICES_MAX || !(q.top_p > 0))
            abort();
        for (size_t i = 0; i < q.n_media; i++) {
            if (q.media[i].from == MEDIAREF_DATA) {
                uint8_t *out = heap_calloc(base64_room(q.media[i].n), 1);
                ptrdiff_t len = out ? base64_decode(q.media[i].text, q.media[i].n, out) : -1;
                if (len > (ptrdiff_t)base64_room(q.media[i].n))
                    abort();
                heap_free(out);
            }
        }
        chatreq_free(&q);
    } else if (r.status < 400 || r.status > 503 || !r.code) {
        abort();
    }
    if (chatreq_read_media(&q, (const char *)data, n, &r) == 0)
        chatreq_free(&q);
    return 0;
}

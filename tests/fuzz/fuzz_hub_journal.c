// SPDX-License-Identifier: MIT
// The journal of a download: eight bytes of size, then the file. What is accepted has one state, 0 or 1, for
// each chunk, and no other size accepts it.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint64_t size = 0;
    if (n < 8)
        return 0;
    for (int i = 7; i >= 0; i--)
        size = size << 8 | data[i];
    size &= ((uint64_t)1 << 40) - 1; // a list of chunks that fits into memory
    size_t n_chunk = journal_chunks(size);
    uint8_t *chunk = malloc(n_chunk ? n_chunk : 1);
    if (!chunk)
        return 0;
    if (journal_parse(data + 8, n - 8, size, chunk)) {
        for (size_t i = 0; i < n_chunk; i++) {
            if (chunk[i] > 1)
                abort();
        }
        if (n - 8 != JOURNAL_HEAD + n_chunk || journal_parse(data + 8, n - 8, size + 1, chunk))
            abort();
    }
    free(chunk);
    return 0;
}

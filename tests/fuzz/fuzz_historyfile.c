// SPDX-License-Identifier: MIT
// Lines of a history file: what is read can be written, and reads the same again.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "historyfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char entry[HISTORY_ENTRY_MAX], line[2 * HISTORY_ENTRY_MAX + 1], again[HISTORY_ENTRY_MAX];
    char *copy = malloc(size + 1); // of just this size, for AddressSanitizer
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    size_t n = historyfile_decode(copy, size, entry);
    if (n > 0) {
        size_t len = historyfile_encode(entry, n, line);
        if (len < 2 || line[len - 1] != '\n' || memchr(line, '\n', len - 1))
            abort();
        if (historyfile_decode(line, len - 1, again) != n || memcmp(entry, again, n) != 0)
            abort();
    }
    free(copy);
    return 0;
}

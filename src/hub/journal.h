// SPDX-License-Identifier: MIT
// Which pieces of a file have arrived, kept beside it, so that a download that is killed goes on where it
// was.
//
//   OFFSET  SIZE  MEANING                              example: 3 MiB and 5 bytes, second chunk there
//   0       8     "IVPULL1\n"                          49 56 50 55 4c 4c 31 0a
//   8       8     bytes of the file, little-endian     05 00 30 00 00 00 00 00
//   16      8     bytes of a chunk, little-endian      00 00 10 00 00 00 00 00
//   24      n     a byte a chunk: 0 missing, 1 there   00 01 00 00
//
// A byte is written after the bytes it speaks of; both survive the end of the process in the system's
// cache. After a power failure the journal may say too much, which the checksum of the whole file finds.
#ifndef IV_HUB_JOURNAL_H
#define IV_HUB_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { JOURNAL_HEAD = 24, JOURNAL_CHUNK = 1 << 20 };

// Chunks of a file of `size` bytes.
size_t journal_chunks(uint64_t size);
// Checks n bytes of a journal of a file of `size` bytes; false = it is of no use. chunk [journal_chunks(size)]
// gets its states.
bool journal_parse(const uint8_t *bytes, size_t n, uint64_t size, uint8_t *chunk);

// Opens data_path for reading and writing at its full size, and its journal. What an earlier download left
// is taken over if it fits, else begun anew. *n_there = chunks that have arrived. *data_fd and *journal_fd are
// the caller's; *journal_fd is -1 for a file of a single chunk.
int journal_open(const char *data_path, const char *journal_path, uint64_t size, uint8_t *chunk,
                 size_t *n_there, int *data_fd, int *journal_fd, struct err *e);
// Notes chunk i as arrived. Any thread.
int journal_mark(int journal_fd, size_t i, struct err *e);

#endif

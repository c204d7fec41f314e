// SPDX-License-Identifier: MIT
// The packets of a video stream as one demuxing pass found them: their presentation order, their times,
// and where decoding may start to reach a given one.
#ifndef IV_MEDIA_PACKETS_H
#define IV_MEDIA_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// PACKET_NO_TIME: the container gives no timestamp.
#define PACKET_NO_TIME INT64_MIN

// May decoding start at this packet? EXACT: every picture that follows it in the file and in
// presentation order comes out as if all had been decoded. SOON: so do the pictures from the next
// entry on (periodic intra refresh, open recovery points).
enum packet_entry { ENTRY_NO, ENTRY_SOON, ENTRY_EXACT };

struct packet {
    int64_t pts, dts; // in the stream's time base
    int64_t pos;      // byte offset in the file, -1 = unknown
    uint32_t size;    // bytes
    uint32_t rank;    // position in presentation order
    enum packet_entry entry;
};

// Zero-initialise, packets_add each in file order, packets_sort once, packets_free.
struct packets {
    struct packet *at; // [n] in file (decoding) order
    uint32_t *order;   // [n]: order[rank] = index in `at`
    size_t n, cap;
    bool timed; // every packet has a pts; otherwise rank = i-th picture that the decoder gives
};

// ERR_LIMIT beyond max packets or when memory is short; name starts the message.
int packets_add(struct packets *p, struct packet one, size_t max, const char *name, struct err *e);
// Ranks by (pts, file order).
int packets_sort(struct packets *p, const char *name, struct err *e);
void packets_free(struct packets *p);

// Index in file order of the last packet from which the picture of `rank` can be decoded exactly (0 when
// there is none after the beginning). Needs a sorted, timed list.
size_t packets_entry(const struct packets *p, size_t rank);
// Rank of the first picture that can be decoded at all in a stream that was cut out of a longer one: that of the
// first entry. 0 when the list is not timed or has no entry.
size_t packets_first_whole(const struct packets *p);
// Seconds of the picture `rank` after the first one: from the pts when the list is timed, else rank / fps
// (0 when fps is 0). tb = seconds of a timestamp unit.
double packets_seconds(const struct packets *p, size_t rank, double tb, double fps);

#endif

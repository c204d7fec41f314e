// SPDX-License-Identifier: MIT
// H.264 (ISO/IEC 14496-10 Annex B, 14496-15): in MP4 each NAL unit follows its length in 1, 2 or 4
// bytes, whose number is in byte 4 of the avcC box; elsewhere units start with 00 00 01.
// Only an IDR picture forgets all reference pictures. Containers also mark recovery points as key
// packets, and from those on the next pictures may still be wrong.
#include "media/nal.h"

enum { NAL_SLICE = 1, NAL_IDR = 5, NAL_SEI = 6, NAL_DELIMITER = 9, NAL_FILLER = 12 };

// The header bytes of a packet's units, one after the other.
struct units {
    const uint8_t *packet;
    size_t n, at, n_len; // n_len 0 = start codes
    bool damaged;        // the rest cannot be told apart
};

static struct units units_of(const uint8_t *packet, size_t n, const uint8_t *config,
                             size_t n_config)
{
    bool lengths = n_config >= 7 && config[0] == 1;
    return (struct units){packet, n, 0, lengths ? (config[4] & 3u) + 1u : 0, false};
}

static bool next_by_length(struct units *u, uint8_t *header)
{
    size_t len = 0;
    if (u->damaged || u->n - u->at <= u->n_len) {
        u->damaged = u->damaged || u->at != u->n;
        return false;
    }
    for (size_t i = 0; i < u->n_len; i++)
        len = len << 8 | u->packet[u->at + i];
    u->at += u->n_len;
    *header = u->packet[u->at];
    u->damaged = len == 0 || len > u->n - u->at;
    u->at += u->damaged ? 0 : len;
    return true;
}

static bool next_by_code(struct units *u, uint8_t *header)
{
    const uint8_t *p = u->packet;
    for (size_t i = u->at; i + 3 < u->n; i++) {
        if (p[i] == 0 && p[i + 1] == 0 && p[i + 2] == 1) {
            *header = p[i + 3];
            u->at = i + 3;
            return true;
        }
    }
    return false;
}

static bool next_unit(struct units *u, uint8_t *header)
{
    return u->n_len > 0 ? next_by_length(u, header) : next_by_code(u, header);
}

bool nal_has_idr(const uint8_t *packet, size_t n, const uint8_t *config, size_t n_config)
{
    struct units u = units_of(packet, n, config, n_config);
    uint8_t header;
    while (next_unit(&u, &header)) {
        if ((header & 0x1f) == NAL_IDR)
            return true;
    }
    return false;
}

bool nal_is_unreferenced(const uint8_t *packet, size_t n, const uint8_t *config, size_t n_config)
{
    struct units u = units_of(packet, n, config, n_config);
    uint8_t header;
    size_t n_slice = 0;
    while (next_unit(&u, &header)) {
        unsigned type = header & 0x1f, ref_idc = header >> 5 & 3;
        if (type == NAL_SLICE && ref_idc == 0)
            n_slice++;
        else if (type != NAL_SEI && type != NAL_DELIMITER && type != NAL_FILLER)
            return false; // parameter sets, say, count for what follows
    }
    return n_slice > 0 && !u.damaged;
}

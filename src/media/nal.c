// SPDX-License-Identifier: MIT
// H.264 (ISO/IEC 14496-10 Annex B, 14496-15): in MP4 each NAL unit follows its length in 1, 2 or 4
// bytes, whose number is in byte 4 of the avcC box; elsewhere units start with 00 00 01.
// Only an IDR picture forgets all reference pictures. Containers also mark recovery points as key
// packets, and from those on the next pictures may still be wrong.
#include "media/nal.h"

enum { NAL_IDR = 5 };

static bool is_idr(uint8_t header)
{
    return (header & 0x1f) == NAL_IDR;
}

bool nal_has_idr(const uint8_t *packet, size_t n, const uint8_t *config, size_t n_config)
{
    if (n_config >= 7 && config[0] == 1) {
        size_t n_len = (config[4] & 3u) + 1u;
        for (size_t at = 0; n - at > n_len;) {
            size_t len = 0;
            for (size_t i = 0; i < n_len; i++)
                len = len << 8 | packet[at + i];
            at += n_len;
            if (is_idr(packet[at]))
                return true;
            if (len == 0 || len > n - at)
                return false;
            at += len;
        }
        return false;
    }
    for (size_t i = 0; i + 3 < n; i++) {
        if (packet[i] == 0 && packet[i + 1] == 0 && packet[i + 2] == 1 && is_idr(packet[i + 3]))
            return true;
    }
    return false;
}

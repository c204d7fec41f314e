// SPDX-License-Identifier: MIT
// Just enough of the H.264 byte stream to tell an IDR picture from other key pictures.
#ifndef IV_MEDIA_NAL_H
#define IV_MEDIA_NAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Does the packet hold an IDR slice (NAL type 5)? config = the codec's extradata (avcC box or Annex B; may
// be empty), which tells how packets are framed. Damaged framing gives false.
bool nal_has_idr(const uint8_t *packet, size_t n, const uint8_t *config, size_t n_config);

#endif

// SPDX-License-Identifier: MIT
// What a decoding process says: whatever it is, no more memory than was ordered, and frames of the size that was told.
#define _GNU_SOURCE // memfd_create
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "decoder.h"
#include "require.h"

enum { FRAMES = 4, PIXELS = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

// All bytes of a frame, so that a sanitizer sees those that are not there.
static void look_at(const struct decoder *d, const struct iv_frame *f)
{
    unsigned all = 0;
    require(!f->sha256 || strlen(f->sha256) < DIGEST_TEXT);
    if (!f->rgb)
        return;
    require(f->width > 0 && f->height > 0 && f->width * f->height <= PIXELS);
    require(!d->index || (f->width == d->head.width && f->height == d->head.height));
    for (size_t i = 0; i < f->width * f->height * 3; i++)
        all += f->rgb[i];
    require(all <= 255 * PIXELS * 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct decoder_order order = {.n_frame = FRAMES,
                                        .limits = {.max_pixels = PIXELS, .seconds = 60}};
    struct decoder d;
    struct iv_frame f;
    struct iv_error e = {0};
    int from = memfd_create("decoder", MFD_CLOEXEC);
    require(from >= 0);
    require(write(from, data, n) == (ssize_t)n && lseek(from, 0, SEEK_SET) == 0);
    int rc = decoder_listen(&d, &order, from);
    if (rc == IV_OK && d.index)
        require(d.head.count >= 1 && d.head.count <= FRAMES);
    while (rc == IV_OK && (rc = decoder_next(&d, &f, &e)) == IV_OK)
        look_at(&d, &f);
    require(rc < 0 && rc >= IV_ERR_ABORT && d.cap <= PIXELS * 3);
    decoder_close(&d);
    return 0;
}

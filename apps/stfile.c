// SPDX-License-Identifier: MIT
// The safetensors format for one tensor of features:
//
//   OFFSET  SIZE  MEANING
//   0       8     n, bytes of the header, little-endian
//   8       n     {"__metadata__":{...},"vit":{"dtype":"F32","shape":[...],"data_offsets":[0,m]}}
//                 padded with blanks to a multiple of 8
//   8 + n   m     the elements, little-endian
//
// Easy to get wrong: every value of the metadata is a string; data_offsets count from the end of
// the header.

#include "stfile.h"

#include <stdint.h>
#include <string.h>

#include "heap.h"
#include "jsontext.h"
#include "npy_save.h"
#include "savefile.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the elements are written as they are");

// The header without padding, the caller's (heap_free); NULL = out of memory.
static char *header(const char *name, size_t bytes, const size_t *dim, unsigned n_dim,
                    const struct stfile_note *notes, size_t n_note)
{
    struct json_writer w;
    jw_begin(&w);
    jw_object(&w, "__metadata__");
    for (size_t i = 0; i < n_note; i++) {
        if (notes[i].value)
            jw_text(&w, notes[i].key, notes[i].value);
    }
    jw_end(&w);
    jw_object(&w, name);
    jw_text(&w, "dtype", "F32");
    jw_array(&w, "shape");
    for (unsigned i = 0; i < n_dim; i++)
        jw_count(&w, NULL, dim[i]);
    jw_end(&w);
    jw_array(&w, "data_offsets");
    jw_count(&w, NULL, 0);
    jw_count(&w, NULL, bytes);
    jw_end(&w);
    jw_end(&w);
    return jw_take(&w);
}

int stfile_save(const char *path, const char *name, const float *data, const size_t *dim,
                unsigned n_dim, const struct stfile_note *notes, size_t n_note, struct iv_error *e)
{
    struct savefile f;
    unsigned char length[8];
    size_t bytes = npy_bytes("f32", dim, n_dim, e);
    if (bytes == 0)
        return e->code;
    char *head = header(name, bytes, dim, n_dim, notes, n_note);
    if (!head)
        return app_error(e, IV_ERR_LIMIT, "%s: out of memory for its header", path);
    size_t n = strlen(head), padding = (8 - n % 8) % 8;
    for (unsigned i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)(n + padding) >> (8 * i));

    int rc = savefile_open(&f, path, e);
    if (rc != IV_OK)
        goto done;
    rc = savefile_write(&f, length, sizeof length, e);
    if (rc == IV_OK)
        rc = savefile_write(&f, head, n, e);
    if (rc == IV_OK)
        rc = savefile_write(&f, "        ", padding, e);
    if (rc == IV_OK)
        rc = savefile_write(&f, data, bytes, e);
    if (rc == IV_OK)
        rc = savefile_commit(&f, true, e);
    else
        savefile_abandon(&f);
done:
    heap_free(head);
    return rc;
}

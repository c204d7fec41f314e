// SPDX-License-Identifier: MIT
// A file of named sections, each with its SHA-256, behind a header with its own: the container of saved
// conversations and cached rows (docs/FORMATS.md). Written beside its name, synced and renamed;
// read with every byte checked, so that a changed bit anywhere is noticed.
#ifndef IV_BASE_CHECKEDFILE_H
#define IV_BASE_CHECKEDFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "base/sha256.h"

enum {
    CHECKED_MAGIC = 8, // bytes
    CHECKED_NAME = 8,  // bytes of a section's name, zero padded
    CHECKED_SECTIONS_MAX = 16,
    CHECKED_ALIGN = 64, // sections begin at multiples of it
};

struct checked_kind {
    const char *magic; // CHECKED_MAGIC characters
    uint32_t version;  // the only one that is read
    const char *what;  // for messages: "a saved conversation"
};

struct checked_section {
    char name[CHECKED_NAME + 1];
    uint64_t offset, size;
    uint8_t digest[SHA256_BYTES];
};

struct checked_writer {
    struct checked_kind kind;
    const struct hooks *hooks;
    char *path, *temporary;
    int fd; // -1 = closed
    struct checked_section section[CHECKED_SECTIONS_MAX];
    size_t n;
    uint64_t at; // end of what is written
    struct sha256 sha;
};

// Opens a new file beside path for writing. After a failure of any of these call checked_abandon; path
// is then as before. hooks (may be NULL): abort is polled. ERR_FAIL: the system's reason.
int checked_create(struct checked_writer *w, const char *path, const struct checked_kind *kind,
                   const struct hooks *hooks, struct err *e);
// Ends the section before and begins one; at most CHECKED_SECTIONS_MAX.
int checked_begin(struct checked_writer *w, const char *name, struct err *e);
int checked_add(struct checked_writer *w, const void *bytes, size_t n, struct err *e);
// Writes the header and puts the file in its place; durable = synced to the disk before and after. Then
// there is nothing to release.
int checked_commit(struct checked_writer *w, bool durable, struct err *e);
// Removes what was written. A zeroed or finished writer is allowed.
void checked_abandon(struct checked_writer *w);

struct checked_reader {
    struct checked_kind kind;
    const struct hooks *hooks;
    char *path;
    int fd; // -1 = closed
    struct checked_section section[CHECKED_SECTIONS_MAX];
    size_t n;
    uint64_t left; // bytes of the section being read
    const struct checked_section *open;
    struct sha256 sha;
    // about the last failure, also after checked_close: the bytes themselves are wrong; or the system's errno
    bool damaged;
    int why;
};

// Opens a file and checks its header, layout, length and padding; sections are checked as they are read.
// ERR_FAIL: not readable, not of this kind or version, damaged. On failure *r is as checked_close leaves it.
int checked_open(struct checked_reader *r, const char *path, const struct checked_kind *kind,
                 const struct hooks *hooks, struct err *e);
void checked_close(struct checked_reader *r);
// Size of the section called name; ERR_FAIL when there is none.
int checked_size(const struct checked_reader *r, const char *name, uint64_t *size, struct err *e);
// Reads a section from its beginning: start, next until nothing is left, finish. Nothing of it may be
// relied on before finish has returned 0: it compares the checksum.
int checked_start(struct checked_reader *r, const char *name, struct err *e);
int checked_next(struct checked_reader *r, void *bytes, size_t n, struct err *e);
int checked_finish(struct checked_reader *r, struct err *e);
// All of that: n must be the section's size.
int checked_read(struct checked_reader *r, const char *name, void *bytes, size_t n, struct err *e);

#endif

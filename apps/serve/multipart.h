// SPDX-License-Identifier: MIT
// The file in a multipart/form-data body.
#ifndef IV_APPS_SERVE_MULTIPART_H
#define IV_APPS_SERVE_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

struct multipart_file {
    const char *bytes; // in the body
    size_t n;
    char name[128]; // of the file, without folders; "" = none
};

// Whether a Content-Type says so.
bool multipart_type(const char *type);
// The part with a file name, else the one called "file". false: the body is not well formed or has none.
bool multipart_read(struct multipart_file *f, const char *type, const char *body, size_t n);

#endif

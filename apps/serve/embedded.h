// SPDX-License-Identifier: MIT
// Files that are part of the program: the page and the description of the interface.
#ifndef IV_APPS_SERVE_EMBEDDED_H
#define IV_APPS_SERVE_EMBEDDED_H

#include <stddef.h>

const char *embedded_page(size_t *n);
const char *embedded_openapi(size_t *n);

#endif

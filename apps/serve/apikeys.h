// SPDX-License-Identifier: MIT
// Who may use the server.
#ifndef IV_APPS_SERVE_APIKEYS_H
#define IV_APPS_SERVE_APIKEYS_H

#include <stddef.h>

#include "digest.h"
#include "ivchat.h"

enum { APIKEYS_MAX = 256, APIKEY_BYTES = 1024 };

struct apikeys {
    size_t n; // 0 = everyone may
    uint8_t digest[APIKEYS_MAX][DIGEST_BYTES];
};

// One key a line; empty lines and those that begin with # are passed over. The text is wiped. IV_ERR_USAGE with a
// message that names `from`, never a key.
int apikeys_add(struct apikeys *k, char *text, size_t n, const char *from, struct iv_error *e);
// value of --api-key: a file or "-", or, from the environment, the key itself when it names no file.
int apikeys_read(struct apikeys *k, const char *value, bool from_environment, struct iv_error *e);
// Number of the holder of the key that an Authorization header shows (Bearer, or the password of Basic), or an
// x-api-key; 1 and up; 0 = none of ours. Without keys everyone is 1.
unsigned apikeys_holder(const struct apikeys *k, const char *authorization, const char *x_api_key);

#endif

// SPDX-License-Identifier: MIT
// Members of a request's JSON, each with its type and range. null is as good as absent. All return 0, or
// -1 with *r filled in; on absence *out is left alone.
#ifndef IV_APPS_SERVE_FIELDCHECK_H
#define IV_APPS_SERVE_FIELDCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "jsontext.h"
#include "refusal.h"

int field_int(const struct json_t *in, const char *key, int64_t least, int64_t most, int *out,
              struct refusal *r);
int field_real(const struct json_t *in, const char *key, double least, double most, double *out,
               struct refusal *r);
int field_flag(const struct json_t *in, const char *key, bool *out, struct refusal *r);
// At most max bytes; the text lives as long as the JSON.
int field_text(const struct json_t *in, const char *key, size_t max, const char **out,
               struct refusal *r);
// An object or absent (*out NULL).
int field_map(const struct json_t *in, const char *key, const struct json_t **out,
              struct refusal *r);
// Refuses a member that asks for what this server does not do; absent, null, false, 0, "", [], {} pass.
int field_unsupported(const struct json_t *in, const char *key, struct refusal *r);

#endif

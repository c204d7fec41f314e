// SPDX-License-Identifier: MIT
// Why a request is not answered, in the shape that OpenAI's clients read. Messages name our own words and numbers
// only: no text of a decoder, no address, no path.
#ifndef IV_APPS_SERVE_REFUSAL_H
#define IV_APPS_SERVE_REFUSAL_H

struct refusal {
    int status;       // of HTTP; 0 = none
    const char *code; // static: "invalid_value", ...
    char param[64];   // what is wrong; "" = nothing in particular
    char message[400];
};

// Fills in *r and returns -1, so that a check can end with it. Control characters and what is not ASCII in
// the message become '?'.
int refuse(struct refusal *r, int status, const char *code, const char *param, const char *format,
           ...) __attribute__((format(printf, 5, 6)));
// "type" of OpenAI's errors.
const char *refusal_type(const struct refusal *r);
// The error object, to heap_free; NULL = no memory.
char *refusal_json(const struct refusal *r);

#endif

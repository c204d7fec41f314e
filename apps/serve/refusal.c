// SPDX-License-Identifier: MIT
// {"error":{"message","type","param","code"}}. Easy to get wrong: a message may quote what the client sent, which then
// stands in logs and terminals: only printable ASCII gets through.

#include "refusal.h"

#include <stdarg.h>
#include <stdio.h>

#include "jsontext.h"

static void printable(char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
            *s = '?';
    }
}

int refuse(struct refusal *r, int status, const char *code, const char *param, const char *format,
           ...)
{
    va_list args;
    r->status = status;
    r->code = code;
    (void)snprintf(r->param, sizeof r->param, "%s", param ? param : "");
    va_start(args, format);
    (void)vsnprintf(r->message, sizeof r->message, format, args);
    va_end(args);
    printable(r->message);
    printable(r->param);
    return -1;
}

const char *refusal_type(const struct refusal *r)
{
    switch (r->status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return r->status >= 500 ? "server_error" : "invalid_request_error";
    }
}

char *refusal_json(const struct refusal *r)
{
    struct json_writer w;
    jw_begin(&w);
    jw_object(&w, "error");
    jw_text(&w, "message", r->message);
    jw_text(&w, "type", refusal_type(r));
    jw_text(&w, "param", r->param[0] ? r->param : NULL);
    jw_text(&w, "code", r->code);
    return jw_take(&w);
}

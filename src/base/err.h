// SPDX-License-Identifier: MIT
// Error values of the whole library. A function that can fail returns 0 or one of the negative
// codes below and takes `struct err *e` last; the message is written where the cause is known and
// names the thing and the numbers ("vit.pos_embed: expected [1,1025,1408], file has [1,257,1408]").
#ifndef IV_BASE_ERR_H
#define IV_BASE_ERR_H

// Equal to enum iv_status of ivchat.h (engine/status.c asserts it); the command line exits with the
// negated value for -1..-7.
enum {
    ERR_FAIL = -1,    // any other failure (I/O, internal)
    ERR_USAGE = -2,   // the caller's arguments make no sense
    ERR_MODEL = -3,   // model files: missing, damaged, unsupported
    ERR_MEDIA = -4,   // input media
    ERR_LIMIT = -5,   // out of memory or over a stated limit
    ERR_NETWORK = -6, // downloads
    ERR_PARTIAL = -7, // some items of a batch failed
    ERR_ABORT = -8,   // the caller's abort callback asked to stop
};

enum { ERR_MSG_MAX = 1024 };

// code 0 = no error. Caller owns it; no allocation inside, so it may live on the stack.
struct err {
    int code;
    char msg
        [ERR_MSG_MAX]; // one line, UTF-8, no trailing newline; control bytes of names are escaped
};

// Writes code and the formatted message (truncated to fit) and returns code. e may be NULL.
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// Puts "<prefix>: " in front of the message already there; code stays. Returns e->code (or ERR_FAIL).
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Forwards a failure to the function's `fail:` label; needs `int rc` in scope.
#define TRY(call)                                                                                  \
    do {                                                                                           \
        rc = (call);                                                                               \
        if (rc != 0)                                                                               \
            goto fail;                                                                             \
    } while (0)

#endif

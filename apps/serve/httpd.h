// SPDX-License-Identifier: MIT
// The HTTP side of the server: the program's one door to libmicrohttpd.
#ifndef IV_APPS_SERVE_HTTPD_H
#define IV_APPS_SERVE_HTTPD_H

#include "server.h"

struct httpd;

// Listens as the options say. IV_ERR_* with a message.
int httpd_open(struct server *s, struct httpd **out, struct iv_error *e);
// "http://127.0.0.1:8080".
const char *httpd_address(const struct httpd *h);
// Cuts connections that send too slowly. About once a second.
void httpd_sweep(struct httpd *h);
// Takes no new connection.
void httpd_quiesce(struct httpd *h);
// Requests whose reply is not yet sent.
unsigned httpd_active(struct httpd *h);
// Ends all connections; no handler runs afterwards. NULL is allowed.
void httpd_close(struct httpd *h);

// For --version.
const char *httpd_library(void);

#endif

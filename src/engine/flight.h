// SPDX-License-Identifier: MIT
// Work that several threads want at once is done by one of them: equal media asked about at the same time are
// encoded once. Nobody waits for longer than the work takes, and each under its own abort.
#ifndef IV_ENGINE_FLIGHT_H
#define IV_ENGINE_FLIGHT_H

#include "base/err.h"
#include "base/log.h"
#include "base/sha256.h"
#include "engine/shared_rows.h"

struct flights; // what is under way; any thread
struct flight;  // one piece of work

int flights_open(struct flights **out, struct err *e);
void flights_close(struct flights *f); // NULL is allowed; nothing is under way any more

// Either *mine, and the caller does the work and ends it with flight_land, whatever becomes of it; or *rows, a hold on
// what another thread has just made. When that one fails, one of those who waited gets *mine. ERR_ABORT: hooks
// asked to stop while it waited; ERR_LIMIT.
int flight_join(struct flights *f, const uint8_t key[SHA256_BYTES], const struct hooks *hooks,
                struct flight **mine, struct shared_rows **rows, struct err *e);
// Ends the work; rows, for those who wait, stay the caller's; NULL = it failed.
void flight_land(struct flights *f, struct flight *mine, struct shared_rows *rows);

#endif

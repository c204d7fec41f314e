// SPDX-License-Identifier: MIT
// How many samples the tables of an MP4 or QuickTime file speak of without naming each, before a demuxer believes
// them.
#ifndef IV_MEDIA_MOV_TABLES_H
#define IV_MEDIA_MOV_TABLES_H

#include <stddef.h>

#include "base/err.h"
#include "media/source.h"

// ERR_LIMIT when more than max samples of all tracks together take no byte of the tables, ERR_MEDIA for a compressed header. Damage is the demuxer's to tell;
// ERR_ABORT and the time limit as for all reading. name starts the message.
int mov_tables_check(const struct source *s, const struct deadline *deadline,
                     const struct hooks *hooks, const char *name, size_t max, struct err *e);

#endif

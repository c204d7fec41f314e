// SPDX-License-Identifier: MIT
// Prefills what stands in front of the next question while a person types it.
#ifndef IV_APPS_CHAT_WARM_H
#define IV_APPS_CHAT_WARM_H

#include <pthread.h>
#include <stdbool.h>

struct chat;

struct chat_warm {
    struct chat *c;
    pthread_t thread;
    bool running;
};

// Begins, on a thread of its own; until chat_warm_end nothing else may touch the session, the media
// or the engine. Does nothing when nothing is kept between turns, or when no thread can be made.
void chat_warm_begin(struct chat_warm *w, struct chat *c);
// Stops it at once and waits until it has stopped.
void chat_warm_end(struct chat_warm *w);

#endif

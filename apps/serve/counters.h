// SPDX-License-Identifier: MIT
// What the server counts, as Prometheus reads it (docs/SERVER.md lists the names).
#ifndef IV_APPS_SERVE_COUNTERS_H
#define IV_APPS_SERVE_COUNTERS_H

#include <pthread.h>
#include <stdint.h>

#include "textbuf.h"

enum { COUNTERS_BUCKETS = 12, COUNTERS_PATHS = 24, COUNTERS_STATUS = 24 };

struct histogram {
    uint64_t bucket[COUNTERS_BUCKETS + 1], n;
    double sum;
};

struct counters {
    pthread_mutex_t lock;
    struct {
        const char *path; // static
        int status;
        uint64_t n;
    } request[COUNTERS_PATHS * COUNTERS_STATUS];
    size_t n_request;
    uint64_t prompt_tokens, cached_tokens, generated_tokens, media_hits, media_misses,
        decode_refused, cancelled;
    double vision_s, prefill_s, generate_s, decode_s;
    struct histogram request_s, ttft_s;
};

int counters_init(struct counters *c);
void counters_request(struct counters *c, const char *path, int status, double seconds);

struct counters_answer {
    uint64_t prompt, cached, generated;
    double vision_ms, prefill_ms, generate_ms, ttft_ms;
};
void counters_answer(struct counters *c, const struct counters_answer *a);
void counters_media(struct counters *c, bool hit, bool refused, double decode_ms);
void counters_cancelled(struct counters *c);

struct counters_now {
    uint64_t running, waiting, workers, media_bytes, media_items, connections;
};
void counters_write(struct counters *c, const struct counters_now *now, struct textbuf *out);

#endif

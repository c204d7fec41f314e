// SPDX-License-Identifier: MIT
// Counters under one lock; the text format of Prometheus. Easy to get wrong: a histogram's buckets are cumulative
// and end with +Inf; a path with an id in it would make one series a request, so paths are those of the routes.

#include "counters.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

// seconds
static const double edges[COUNTERS_BUCKETS] = {0.05, 0.1, 0.25, 0.5, 1,   2.5,
                                               5,    10,  30,   60,  300, 900};

int counters_init(struct counters *c)
{
    memset(c, 0, sizeof *c);
    return pthread_mutex_init(&c->lock, NULL) == 0 ? 0 : -1;
}

static void observe(struct histogram *h, double seconds)
{
    size_t i = 0;
    while (i < COUNTERS_BUCKETS && seconds > edges[i])
        i++;
    h->bucket[i]++;
    h->n++;
    h->sum += seconds;
}

void counters_request(struct counters *c, const char *path, int status, double seconds)
{
    size_t i = 0, max = sizeof c->request / sizeof *c->request;
    (void)pthread_mutex_lock(&c->lock);
    while (i < c->n_request && (c->request[i].path != path || c->request[i].status != status))
        i++;
    if (i < max) {
        c->request[i].path = path;
        c->request[i].status = status;
        c->request[i].n++;
        c->n_request = i == c->n_request ? i + 1 : c->n_request;
    }
    observe(&c->request_s, seconds);
    (void)pthread_mutex_unlock(&c->lock);
}

void counters_answer(struct counters *c, const struct counters_answer *a)
{
    (void)pthread_mutex_lock(&c->lock);
    c->prompt_tokens += a->prompt;
    c->cached_tokens += a->cached;
    c->generated_tokens += a->generated;
    c->vision_s += a->vision_ms / 1e3;
    c->prefill_s += a->prefill_ms / 1e3;
    c->generate_s += a->generate_ms / 1e3;
    observe(&c->ttft_s, a->ttft_ms / 1e3);
    (void)pthread_mutex_unlock(&c->lock);
}

void counters_media(struct counters *c, bool hit, bool refused, double decode_ms)
{
    (void)pthread_mutex_lock(&c->lock);
    c->media_hits += hit;
    c->media_misses += !hit;
    c->decode_refused += refused;
    c->decode_s += decode_ms / 1e3;
    (void)pthread_mutex_unlock(&c->lock);
}

void counters_cancelled(struct counters *c)
{
    (void)pthread_mutex_lock(&c->lock);
    c->cancelled++;
    (void)pthread_mutex_unlock(&c->lock);
}

static void head(struct textbuf *out, const char *name, const char *type, const char *help)
{
    textbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void whole(struct textbuf *out, const char *name, const char *type, const char *help,
                  uint64_t v)
{
    head(out, name, type, help);
    textbuf_printf(out, "%s %llu\n", name, (unsigned long long)v);
}

static void seconds(struct textbuf *out, const char *name, const char *help, double v)
{
    head(out, name, "counter", help);
    textbuf_printf(out, "%s %.6f\n", name, v);
}

static void spread(struct textbuf *out, const char *name, const char *help,
                   const struct histogram *h)
{
    uint64_t sum = 0;
    head(out, name, "histogram", help);
    for (size_t i = 0; i < COUNTERS_BUCKETS; i++) {
        sum += h->bucket[i];
        textbuf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name, edges[i], (unsigned long long)sum);
    }
    textbuf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name,
                   (unsigned long long)h->n, name, h->sum, name, (unsigned long long)h->n);
}

static uint64_t resident_bytes(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%llu %llu", &size, &resident) != 2)
            resident = 0;
        (void)fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void counters_write(struct counters *c, const struct counters_now *now, struct textbuf *out)
{
    (void)pthread_mutex_lock(&c->lock);
    head(out, "ivchat_requests_total", "counter", "Requests answered, by route and status.");
    for (size_t i = 0; i < c->n_request; i++)
        textbuf_printf(out, "ivchat_requests_total{path=\"%s\",status=\"%d\"} %llu\n",
                       c->request[i].path, c->request[i].status,
                       (unsigned long long)c->request[i].n);
    spread(out, "ivchat_request_seconds", "From the head of a request to the end of its reply.",
           &c->request_s);
    spread(out, "ivchat_time_to_first_token_seconds",
           "From the start of an answer's work to its first token.", &c->ttft_s);
    whole(out, "ivchat_prompt_tokens_total", "counter",
          "Positions of prompts, cached ones included.", c->prompt_tokens);
    whole(out, "ivchat_cached_tokens_total", "counter", "Those taken from earlier turns.",
          c->cached_tokens);
    whole(out, "ivchat_generated_tokens_total", "counter", "Tokens of answers.",
          c->generated_tokens);
    seconds(out, "ivchat_decode_seconds_total", "Decoding of media.", c->decode_s);
    seconds(out, "ivchat_vision_seconds_total", "Vision encoder and Q-Former.", c->vision_s);
    seconds(out, "ivchat_prefill_seconds_total", "Reading of prompts.", c->prefill_s);
    seconds(out, "ivchat_generate_seconds_total", "Generation of answers.", c->generate_s);
    whole(out, "ivchat_media_cache_hits_total", "counter", "Media that were decoded already.",
          c->media_hits);
    whole(out, "ivchat_media_cache_misses_total", "counter", "Media that had to be decoded.",
          c->media_misses);
    whole(out, "ivchat_media_refused_total", "counter", "Media that could not be decoded.",
          c->decode_refused);
    whole(out, "ivchat_cancelled_total", "counter", "Requests whose client left before the end.",
          c->cancelled);
    (void)pthread_mutex_unlock(&c->lock);
    whole(out, "ivchat_jobs_running", "gauge", "Answers being worked on.", now->running);
    whole(out, "ivchat_jobs_waiting", "gauge", "Requests in the queue.", now->waiting);
    whole(out, "ivchat_workers", "gauge", "Answers that can be worked on at once.", now->workers);
    whole(out, "ivchat_connections", "gauge", "Open connections.", now->connections);
    whole(out, "ivchat_stored_media_bytes", "gauge", "Uploads that are kept.", now->media_bytes);
    whole(out, "ivchat_stored_media", "gauge", "Their number.", now->media_items);
    whole(out, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
}

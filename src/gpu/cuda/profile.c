// SPDX-License-Identifier: MIT
// Where the time of a stream goes: an event behind every launch, added up by name. For measurements only: the
// events themselves cost about a microsecond each.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gpu/cuda/stream.h"

enum { N_EVENT = 16384 };

struct profile {
    size_t n; // events recorded; event 0 is the start
    cudaEvent_t event[N_EVENT];
    char name[N_EVENT][48];
};

void profile_mark(struct ops *o, const char *fmt, ...)
{
    struct profile *p = stream_of(o)->profile;
    if (!p || p->n == N_EVENT || stream_of(o)->recording)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->name[p->n], sizeof p->name[0], fmt, ap);
    va_end(ap);
    if (cudaEventCreateWithFlags(&p->event[p->n], 0) == cudaSuccess) {
        (void)cudaEventRecord(p->event[p->n], stream_of(o)->stream);
        p->n++;
    }
}

void ops_gpu_profile_start(struct ops *o)
{
    device_enter(stream_of(o)->gpu);
    stream_of(o)->profile = mem_calloc(1, sizeof *stream_of(o)->profile);
    profile_mark(o, "start");
}

size_t ops_gpu_profile_stop(struct ops *o, struct gpu_time *out, size_t cap)
{
    struct stream *s = stream_of(o);
    struct profile *p = s->profile;
    size_t n = 0;
    s->profile = NULL;
    if (!p)
        return 0;
    device_enter(s->gpu);
    (void)cudaStreamSynchronize(s->stream);
    for (size_t i = 1; i < p->n; i++) {
        float ms = 0;
        size_t at = 0;
        (void)cudaEventElapsedTime(&ms, p->event[i - 1], p->event[i]);
        while (at < n && strcmp(out[at].name, p->name[i]) != 0)
            at++;
        if (at == cap)
            continue;
        if (at == n) {
            memset(&out[n], 0, sizeof out[n]);
            memcpy(out[n++].name, p->name[i], sizeof p->name[i]);
        }
        out[at].ms += (double)ms;
        out[at].n++;
    }
    for (size_t i = 0; i < p->n; i++)
        (void)cudaEventDestroy(p->event[i]);
    mem_free(p);
    return n;
}

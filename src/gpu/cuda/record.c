// SPDX-License-Identifier: MIT
// Decoding steps as CUDA graphs: recorded the first time, launched as one afterwards. What changes from step
// to step lies in device memory that the graph reads: token ids and positions.
//
// Easy to get wrong: while a stream records, nothing may allocate or wait; whatever a step needs has been
// made by the prefill before it (weights, rotary frequencies, products' algorithms are looked up, not made). And what a
// recorded step reads may not change its meaning while it can be launched again (rotary frequencies: `recorded`).
#include <string.h>

#include "gpu/cuda/stream.h"

static struct step_graph *find(struct stream *s, uint64_t key)
{
    for (size_t i = 0; i < N_GRAPH; i++)
        if (s->graph[i].exec && s->graph[i].key == key)
            return &s->graph[i];
    return NULL;
}

// A free place, or that of the graph unused for longest.
static struct step_graph *place_for(struct stream *s)
{
    struct step_graph *oldest = &s->graph[0];
    for (size_t i = 0; i < N_GRAPH; i++) {
        if (!s->graph[i].exec)
            return &s->graph[i];
        if (s->graph[i].last_use < oldest->last_use)
            oldest = &s->graph[i];
    }
    (void)cudaGraphExecDestroy(oldest->exec);
    oldest->exec = NULL;
    return oldest;
}

static void launch(struct ops *o, struct step_graph *g)
{
    struct stream *s = stream_of(o);
    g->last_use = ++s->clock;
    stream_check(o, (int)cudaGraphLaunch(g->exec, s->stream), "a recorded step");
}

bool cuda_step_begin(struct ops *o, uint64_t key, const int32_t *ids, const uint32_t *pos, size_t n)
{
    struct stream *s = stream_of(o);
    if (key == 0 || n > OPS_STEP_ROWS || !stream_runs(o))
        return false;
    stream_put(o, s->parts.step_ids, ids, n * sizeof *ids);
    stream_put(o, s->parts.step_pos, pos, n * sizeof *pos);
    struct step_graph *g = find(s, key);
    if (g) {
        launch(o, g);
        return true;
    }
    cudaError_t status = cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal);
    s->recording = status == cudaSuccess;
    if (s->recording) {
        s->given_ids = ids;
        s->given_pos = pos;
        s->record_key = key;
    }
    stream_check(o, (int)status, "recording a step");
    return false;
}

void cuda_step_end(struct ops *o)
{
    struct stream *s = stream_of(o);
    cudaGraph_t graph = NULL;
    if (!s->recording)
        return;
    device_enter(s->gpu);
    s->recording = false;
    s->given_ids = NULL;
    s->given_pos = NULL;
    cudaError_t status = cudaStreamEndCapture(s->stream, &graph);
    if (o->status.code == 0 && status == cudaSuccess) {
        struct step_graph *g = place_for(s);
        status = cudaGraphInstantiate(&g->exec, graph, 0);
        if (status == cudaSuccess) {
            g->key = s->record_key;
            launch(o, g);
        } else {
            g->exec = NULL;
        }
    }
    stream_check(o, (int)status, "recording a step");
    if (graph)
        (void)cudaGraphDestroy(graph);
}

void cuda_steps_forget(struct stream *s)
{
    for (size_t i = 0; i < N_GRAPH; i++)
        if (s->graph[i].exec)
            (void)cudaGraphExecDestroy(s->graph[i].exec);
    for (size_t i = 0; i < s->n_theta; i++)
        s->theta[i].recorded = false;
    memset(s->graph, 0, sizeof s->graph);
}

void cuda_steps_free(struct stream *s)
{
    cuda_steps_forget(s);
    for (size_t i = 0; i < s->n_theta; i++)
        (void)cudaFreeHost(s->theta[i].host);
    s->n_theta = 0;
}

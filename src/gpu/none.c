// SPDX-License-Identifier: MIT
// A build without the CUDA toolkit: no device is ever opened, so the other functions are never reached.
#include "gpu/gpu.h"

#include <string.h>

bool gpu_is_built(void)
{
    return false;
}

int gpu_probe(int index, struct err *e)
{
    return err_set(e, ERR_FAIL, "cuda:%d: this build has no CUDA (configure with -DIV_CUDA=ON)",
                   index);
}

int gpu_open(const struct gpu_options *opt, struct gpu **out, struct err *e)
{
    *out = NULL;
    return gpu_probe(opt->index, e);
}

void gpu_close(struct gpu *g)
{
    (void)g;
}

void gpu_get_info(const struct gpu *g, struct gpu_info *out)
{
    (void)g;
    memset(out, 0, sizeof *out);
}

void gpu_get_memory(struct gpu *g, struct gpu_memory *out)
{
    (void)g;
    memset(out, 0, sizeof *out);
}

size_t gpu_stream_bytes(void)
{
    return 0;
}

size_t gpu_pinned_bytes(size_t n_stream)
{
    (void)n_stream;
    return 0;
}

int gpu_open_plan(const struct gpu_options *opt, struct gpu **out, struct err *e)
{
    return gpu_open(opt, out, e);
}

size_t gpu_free_bytes(const struct gpu *g)
{
    (void)g;
    return 0;
}

int ops_open_gpu(struct gpu *g, const struct ops_options *opt, struct ops **out, struct err *e)
{
    (void)g;
    (void)opt;
    *out = NULL;
    return err_set(e, ERR_FAIL, "this build has no CUDA");
}

int ops_open_gpu_plan(struct gpu *g, const struct ops_options *opt, bool place, struct ops **out,
                      struct err *e)
{
    (void)place;
    return ops_open_gpu(g, opt, out, e);
}

void ops_gpu_profile_start(struct ops *o)
{
    (void)o;
}

size_t ops_gpu_profile_stop(struct ops *o, struct gpu_time *out, size_t cap)
{
    (void)o;
    (void)out;
    (void)cap;
    return 0;
}

// SPDX-License-Identifier: MIT
// Owns the handle of the shared library. Easy to get wrong: libraries of other major versions than the header's are
// tried too, so only functions that all of them have may be listed.
#include "gpu/cuda/lt.h"

#include <dlfcn.h>
#include <string.h>

int lt_open(struct lt *lt, struct err *e)
{
    // the version that the header is of, then the plain name
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    const struct {
        void *to; // address of a function pointer
        const char *name;
    } symbol[] = {
        {&lt->create, "cublasLtCreate"},
        {&lt->destroy, "cublasLtDestroy"},
        {&lt->matmul, "cublasLtMatmul"},
        {&lt->desc_create, "cublasLtMatmulDescCreate"},
        {&lt->desc_destroy, "cublasLtMatmulDescDestroy"},
        {&lt->desc_set, "cublasLtMatmulDescSetAttribute"},
        {&lt->layout_create, "cublasLtMatrixLayoutCreate"},
        {&lt->layout_destroy, "cublasLtMatrixLayoutDestroy"},
        {&lt->preference_create, "cublasLtMatmulPreferenceCreate"},
        {&lt->preference_destroy, "cublasLtMatmulPreferenceDestroy"},
        {&lt->preference_set, "cublasLtMatmulPreferenceSetAttribute"},
        {&lt->heuristic, "cublasLtMatmulAlgoGetHeuristic"},
        {&lt->config, "cublasLtMatmulAlgoConfigGetAttribute"},
    };
    memset(lt, 0, sizeof *lt);
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !lt->library; i++)
        lt->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!lt->library)
        return err_set(e, ERR_FAIL, "CUDA: the library libcublasLt.so is not to be found");
    for (size_t i = 0; i < sizeof symbol / sizeof symbol[0]; i++) {
        void *address = dlsym(lt->library, symbol[i].name);
        if (!address) {
            lt_close(lt);
            return err_set(e, ERR_FAIL, "CUDA: libcublasLt.so has no %s", symbol[i].name);
        }
        memcpy(symbol[i].to, &address, sizeof address);
    }
    return 0;
}

void lt_close(struct lt *lt)
{
    if (lt->library)
        dlclose(lt->library);
    memset(lt, 0, sizeof *lt);
}

// SPDX-License-Identifier: MIT
// The switch of overlap.cuh. Code for an older architecture that the driver translated for a new device has no
// overlap_wait in it and must not be launched early: ptxVersion tells.
#include "gpu/cuda/overlap.cuh"

#include <atomic>

#include "gpu/cuda/device_kernels.h"

enum { UNKNOWN, NO, YES, N_DEVICE = 64, OVERLAP_PTX = 90 };

static std::atomic<bool> overlap_on{true};
static std::atomic<int> overlap_able[N_DEVICE]; // of each device, asked once

void cuda_overlap(bool on)
{
    overlap_on.store(on, std::memory_order_relaxed);
}

bool overlap_possible(const void *kernel)
{
    int device = 0, major = 0;
    if (!overlap_on.load(std::memory_order_relaxed) || cudaGetDevice(&device) || device >= N_DEVICE)
        return false;
    int able = overlap_able[device].load(std::memory_order_relaxed);
    if (able == UNKNOWN) {
        cudaFuncAttributes f = {};
        able = !cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) && major >= 9 &&
                       !cudaFuncGetAttributes(&f, kernel) && f.ptxVersion >= OVERLAP_PTX
                   ? YES
                   : NO;
        overlap_able[device].store(able, std::memory_order_relaxed);
    }
    return able == YES;
}

# SPDX-License-Identifier: MIT
# The CUDA toolkit. The runtime is linked in statically and finds the driver when it is first asked; cuBLASLt is
# opened at run time (src/gpu/cuda/lt.c): a program built here starts on machines that have neither.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual" CACHE STRING "")
endif()
enable_language(CUDA)
find_package(CUDAToolkit 12.4 REQUIRED)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS} -Xcompiler=-fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti -lineinfo")
set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
set(IV_CUDA_LIBS CUDA::cudart_static rt dl)

# SPDX-License-Identifier: MIT
# The CUDA toolkit. The runtime is linked in statically and finds the driver when it is first asked; cuBLASLt is
# opened at run time (src/gpu/cuda/lt.c): a program built here starts on machines that have neither.
if(IV_CUDA STREQUAL "EMULATE")
  # kernels run on the CPU, slowly: for tests on machines without a GPU or the toolkit (tests/gpu/emulate)
  enable_language(CXX)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  set(CMAKE_CXX_STANDARD 17)
  set(emulate ${CMAKE_SOURCE_DIR}/tests/gpu/emulate)
  file(GLOB kernel_files CONFIGURE_DEPENDS src/gpu/cuda/*.cu)
  file(GLOB kernel_headers CONFIGURE_DEPENDS src/gpu/cuda/*.cuh src/gpu/cuda/*.h ${emulate}/*.hpp)
  set(IV_CUDA_SRC ${emulate}/emulate.cpp ${emulate}/emulate_lt.cpp)
  foreach(f ${kernel_files})
    get_filename_component(name ${f} NAME_WE)
    set(out ${CMAKE_BINARY_DIR}/emulate/${name}_cu.cpp)
    add_custom_command(OUTPUT ${out}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/emulate
      COMMAND ${Python3_EXECUTABLE} ${emulate}/emulate.py ${f} > ${out}
      DEPENDS ${f} ${kernel_headers} ${emulate}/emulate.py VERBATIM)
    list(APPEND IV_CUDA_SRC ${out})
  endforeach()
  set_source_files_properties(${IV_CUDA_SRC} PROPERTIES
    COMPILE_OPTIONS "-O2;-ffp-contract=off;-fvisibility=hidden;-Wno-unknown-pragmas")
  # twins of machine.cuh and warpgroup.cuh come first and leave those nothing to say
  foreach(f ${IV_CUDA_SRC})
    if(f MATCHES "_cu\\.cpp$")
      set_property(SOURCE ${f} APPEND PROPERTY COMPILE_OPTIONS "-include;emulate_warpgroup.cuh")
    endif()
  endforeach()
  file(GLOB c_files CONFIGURE_DEPENDS src/gpu/cuda/*.c)
  list(FILTER c_files EXCLUDE REGEX "/lt\\.c$")
  list(APPEND IV_CUDA_SRC ${c_files})
  set(IV_CUDA_INCLUDES ${emulate})
  set(IV_CUDA_LIBS stdc++)
  set(IV_CUDA_PC " -lstdc++") # for ivchat-static.pc
  return()
endif()

if(IV_CUDA STREQUAL "CHECK")
  set(CMAKE_CUDA_ARCHITECTURES 80-real)
elseif(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual" CACHE STRING "")
endif()
enable_language(CUDA)
find_package(CUDAToolkit 12.4 REQUIRED)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS} -Xcompiler=-fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics -lineinfo")
if(IV_CUDA STREQUAL "CHECK") # nobody runs them
  set(CMAKE_CUDA_FLAGS_RELEASE "-O1 -Xcicc -O1 -Xptxas -O1")
else()
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
endif()
set(IV_CUDA_LIBS CUDA::cudart_static rt dl)
# who links libivchat.a brings the runtime along: for ivchat-static.pc and ivchat-config.cmake
set(IV_CUDA_PC " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lrt -ldl")
set(IV_CUDA_PACKAGE "find_package(CUDAToolkit QUIET)")
set(IV_CUDA_INCLUDES ${CUDAToolkit_INCLUDE_DIRS})
file(GLOB IV_CUDA_SRC CONFIGURE_DEPENDS src/gpu/cuda/*.c src/gpu/cuda/*.cu)
if(IV_CUDA STREQUAL "CHECK") # warpgroups, and the two instructions of overlap.cuh: nothing else differs
  set_source_files_properties(src/gpu/cuda/attention_hopper.cu src/gpu/cuda/linear.cu src/gpu/cuda/overlap.cu
    PROPERTIES COMPILE_OPTIONS "--generate-code=arch=compute_90a,code=[sm_90a]")
endif()

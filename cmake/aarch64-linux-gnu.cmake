# SPDX-License-Identifier: MIT
# Cross build for 64-bit ARM: Debian's cross gcc, libraries unpacked by tools/aarch64_sysroot.sh into
# build-aarch64-sysroot/, programs run through qemu-aarch64.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)

get_filename_component(IV_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../build-aarch64-sysroot/root" ABSOLUTE)
set(IV_ARM_LIB "${IV_SYSROOT}/usr/lib/aarch64-linux-gnu")
set(ENV{PKG_CONFIG_DIR} "")
set(ENV{PKG_CONFIG_PATH} "")
set(ENV{PKG_CONFIG_LIBDIR} "${IV_ARM_LIB}/pkgconfig:${IV_SYSROOT}/usr/share/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${IV_SYSROOT}")
# the libraries' own libraries; blas, pulse and mesa keep theirs in folders of their own
set(CMAKE_EXE_LINKER_FLAGS_INIT
    "-Wl,-rpath-link,${IV_ARM_LIB}:${IV_SYSROOT}/lib/aarch64-linux-gnu:${IV_ARM_LIB}/pulseaudio:${IV_ARM_LIB}/blas:${IV_ARM_LIB}/lapack")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "${CMAKE_EXE_LINKER_FLAGS_INIT}")

set(CMAKE_FIND_ROOT_PATH "${IV_SYSROOT}" /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
# without SVE, which no kernel of ours uses: the C library would, and emulated it is slow
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-cpu;max,sve=off;-L;${IV_SYSROOT}")

#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the kernels and their checks for arm64, statically, and runs them under qemu-aarch64.
# usage: tests/check/cross_aarch64.sh [build folder]
# Prints "SKIP <reason>" and exits with 77 where the cross compiler or the emulator is missing.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/build-aarch64}
cc=${CROSS_CC:-aarch64-linux-gnu-gcc}
run=${CROSS_RUN:-qemu-aarch64}
for tool in "$cc" "$run"; do
    command -v "$tool" >/dev/null || {
        echo "SKIP $tool is not installed"
        exit 77
    }
done
mkdir -p "$out"
cd "$root"
flags="-std=c11 -O2 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Wall -Wextra -Wpedantic -Wshadow
    -Wconversion -Wvla -Werror -fno-math-errno -ffp-contract=off -Isrc -Itests/support -Itests/check/cross"
objects=
for f in src/base/cpu.c src/tensor/dtype.c src/kernels/*.c src/kernels/arm/*.c \
    tests/support/guarded.c tests/support/kernel_check.c; do
    o=$out/$(basename "$f" .c).o
    # shellcheck disable=SC2086
    "$cc" $flags -c "$f" -o "$o"
    objects="$objects $o"
done
for f in tests/check/check_*.c; do
    name=$(basename "$f" .c)
    # shellcheck disable=SC2086
    "$cc" $flags -static "$f" $objects -lm -o "$out/$name"
    echo "$name"
    "$run" "$out/$name"
done

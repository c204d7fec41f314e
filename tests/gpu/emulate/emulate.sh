#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds a check program of this folder's parent with kernels that run on the CPU, and runs it:
#   tests/gpu/emulate/emulate.sh BUILD_DIR tests/gpu/check_cuda_rows.c src/gpu/cuda/rows_norm.cu ... [-- ARGS]
set -eu
here=$(dirname "$0") top=$(dirname "$0")/../../.. out=$1 check=$2
shift 2
mkdir -p "$out"
flags="-O1 -g -I $here -I $top/src -I $top/tests/gpu"
c++ -std=c++17 $flags -c "$here/emulate.cpp" -o "$out/emulate.o"
objects="$out/emulate.o"
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    name=$out/$(basename "$1" .cu)_cu
    python3 "$here/emulate.py" "$1" >"$name.cpp"
    # A product of two floats stays rounded, as in __fmul_rn; fmaf is called by its name.
    c++ -std=c++17 $flags -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas -I "$(dirname "$1")" \
        -include emulate_warpgroup.cuh \
        -c "$name.cpp" -o "$name.o"
    objects="$objects $name.o"
    shift
done
[ $# -gt 0 ] && shift
name=$out/$(basename "$check" .c)
cc -std=c11 -D_POSIX_C_SOURCE=200809L $flags -Wall -Wextra -c "$check" -o "$name.o"
cc -std=c11 -D_POSIX_C_SOURCE=200809L $flags -c "$here/../device_matrix.c" -o "$out/device_matrix.o"
case $check in
*check_gpu_attention.c)
    for part in attention_case attention_bench; do
        cc -std=c11 -D_POSIX_C_SOURCE=200809L $flags -Wall -Wextra -c "$here/../$part.c" -o "$out/$part.o"
        objects="$objects $out/$part.o"
    done
    ;;
esac
c++ "$name.o" "$out/device_matrix.o" $objects -lm -o "$name"
exec "$name" "$@"

#!/bin/sh
# SPDX-License-Identifier: MIT
# Static analysis with whatever of cppcheck, clang-tidy and gcc -fanalyzer is here; optional, not part of make test.
#   tools/analyze.sh BUILD-FOLDER     (needs its compile_commands.json)
set -u
build=${1:-build}
[ -f "$build/compile_commands.json" ] || { echo "no $build/compile_commands.json: run make first" >&2; exit 1; }
bad=0
if command -v cppcheck >/dev/null; then
    echo '== cppcheck'
    cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
        --suppress=missingIncludeSystem --suppress=nullPointerRedundantCheck -Iinclude -Isrc src apps || bad=1
fi
if command -v clang-tidy >/dev/null; then
    echo '== clang-tidy'
    git ls-files 'src/*.c' 'apps/*.c' | grep -v '^src/kernels/arm/' |
        xargs clang-tidy --quiet -p "$build" --warnings-as-errors='*' \
            --checks='-*,clang-analyzer-*,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-implicit-widening-of-multiplication-result,-bugprone-assignment-in-if-condition' \
            2>/dev/null || bad=1
fi
exit $bad

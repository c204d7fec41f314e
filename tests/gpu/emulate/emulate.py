#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is not C++ in a .cu file, rewritten for emulate.hpp; to standard output.

  kernel<int><<<grid, block, shared, stream>>>(a, b)   a call of emulate_launch
  extern __shared__ float s[];                         a pointer
"""
import re
import sys

LAUNCH = re.compile(r"([A-Za-z_]\w*(?:<[^<>;{}]*>)?)\s*<<<(.*?)>>>\s*\(", re.S)
SHARED = re.compile(r"extern\s+__shared__\s+((?:(?:__align__|alignas)\(\d+\)\s+)?)([\w:]+(?:\s+\w+)*?)\s+(\w+)\[\]\s*;")


def main():
    path = sys.argv[1]
    with open(path, encoding="utf-8") as f:
        text = f.read()
    text = SHARED.sub(r"\2 *\3 = (\2 *)emulate_dynamic_shared();", text)
    text = LAUNCH.sub(r"emulate_launch([=](auto... emulate_a) { \1(emulate_a...); }, \2)(", text)
    print('#line 1 "%s"' % path)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

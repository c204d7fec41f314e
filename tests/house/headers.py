# SPDX-License-Identifier: MIT
"""Each header compiles alone, twice over in one file (guards); ivchat.h also as C99 and as C++.

Not run through ctest: needs only the compiler. $CC and $CXX choose another one.
"""
import glob
import os
import platform
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# optimising, since without it gcc's intrinsics are macros, which the warnings then look into
STRICT = ["-fsyntax-only", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
DEFINES = ["-D_POSIX_C_SOURCE=200809L", "-D_DEFAULT_SOURCE", "-D_FILE_OFFSET_BITS=64"]
ISA_FLAGS = ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni",
             "-mavx512bf16", "-mavxvnni"]


def compiles(command, header):
    source = '#include "%s"\n#include "%s"\nextern int nothing_else;\n' % (header, header)
    done = subprocess.run([*command, "-"], input=source.encode(), cwd=ROOT, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0, done.stdout.decode("utf-8", "replace")


def library_flags():
    done = subprocess.run(["pkg-config", "--cflags", "jansson", "cmocka"], capture_output=True, check=False)
    return done.stdout.decode().split()


def main():
    report = tap.Report()
    cc = os.environ.get("CC", "cc")
    for path in sorted(glob.glob("**/*.h", root_dir=os.path.join(ROOT, "src"), recursive=True)):
        isa = path.split("/")[1] if path.count("/") == 2 else ""
        if isa == "arm" and platform.machine() != "aarch64" or isa == "x86" and platform.machine() != "x86_64":
            continue  # the cross build compiles those
        if re.search(r"(_lanes|/panel_\w+)\.h$", path):
            continue  # a kernel's text in the vocabulary of a lanes_*.h, which its .c file names first
        flags = ISA_FLAGS if isa == "x86" else []
        passed, log = compiles([cc, "-std=c11", "-x", "c", *STRICT, *DEFINES, *flags, "-Isrc", "-Iinclude"], path)
        report.ok(passed, "src/%s alone" % path, log)
    for folder in ("apps", "tests/support"):
        for path in sorted(glob.glob(folder + "/**/*.h", root_dir=ROOT, recursive=True)):
            where = ["-Iinclude", "-Iapps"] if folder == "apps" else ["-Iinclude", "-Isrc", "-Itests/support"]
            passed, log = compiles([cc, "-std=c11", "-x", "c", *STRICT, *DEFINES, *where, *library_flags()], path)
            report.ok(passed, path + " alone", log)

    with_clang(report)

    public = "include/ivchat.h"  # without our defines and include paths: an embedder has neither
    for compiler in sorted({cc, "gcc", "clang"}):
        for language, standard in (("c", "c99"), ("c", "c11"), ("c++", "c++11")):
            name = "%s as %s by %s" % (public, standard, compiler)
            if not shutil.which(compiler) or language == "c++" and not compiles_cxx(compiler):
                report.skip(name, "no %s compiler of that name here" % language)
                continue
            # C++ counts struct iv_plan beside iv_plan() as shadowing; C has struct stat beside stat() too
            strict = [f for f in STRICT if language == "c" or f != "-Wshadow"]
            passed, log = compiles([compiler, "-std=" + standard, "-x", language, *strict, "-I."], public)
            report.ok(passed, name, log)
    return report.done()


def with_clang(report):
    """What no other phase compiles with clang: the program, and the kernels of this processor."""
    folders = ["apps/*.c", "apps/serve/*.c"] + (["src/kernels/x86/*.c"] if platform.machine() == "x86_64" else [])
    for pattern in folders:
        name = pattern + " by clang"
        if not shutil.which("clang"):
            report.skip(name, "no clang compiler of that name here")
            continue
        files = sorted(glob.glob(pattern, root_dir=ROOT))
        flags = ISA_FLAGS if "x86" in pattern else ['-DSERVE_PAGE_FILE="page"', '-DSERVE_OPENAPI_FILE="api"', "-Iapps", "-Iapps/serve"]
        done = subprocess.run(["clang", "-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *DEFINES, *flags, "-Iinclude", "-Isrc",
                               *library_flags(), *files], cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        report.ok(done.returncode == 0 and files, name, done.stdout.decode("utf-8", "replace"))


def compiles_cxx(compiler):
    """gcc without g++ has no C++ front end."""
    return compiles([compiler, "-x", "c++", "-fsyntax-only"], "stddef.h")[0]


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""Every rule of tools/lint.py seen red: a small clean tree passes, and each spoilt copy of it is told by
the rule, in the file and at the line expected, and by no other rule."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import lint  # noqa: E402
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SPDX = "// SPDX-License-Identifier: MIT\n"
HASH_SPDX = "# SPDX-License-Identifier: MIT\n"


def c_file(body="", include=""):
    return SPDX + "// What it owns.\n" + include + body


def header(guard, body=""):
    return SPDX + "#ifndef %s\n#define %s\n%s#endif\n" % (guard, guard, body)


CLEAN = {
    "include/ivchat.h": SPDX + "#ifndef IVCHAT_H\n#define IVCHAT_H\n#include <stddef.h>\n#endif\n",
    "src/base/buf.h": header("IV_BASE_BUF_H"),
    "src/base/buf.c": c_file('const char *buf_name(void)\n{\n    return "malloc(3) is a word here"; // free() too\n}\n',
                             '#include "base/buf.h"\n'),
    "src/base/mem.c": c_file("void *mem_take(void)\n{\n    return malloc(1);\n}\n", "#include <stdlib.h>\n"),
    "src/ops/ops.h": header("IV_OPS_OPS_H"),
    "src/engine/open.c": c_file('int opened;\n', '#include <ivchat.h>\n\n#include "ops/ops.h"\n'),
    "src/media/libav.h": header("IV_MEDIA_LIBAV_H", "#include <libavformat/avformat.h>\n"),
    "src/model/vit.c": c_file("", '#include "ops/ops.h"\n'),
    "tests/gpu/emulate/cublasLt.h": header("CUBLASLT_H", "typedef struct lt *cublasLtHandle_t;\n"),
    "apps/main.c": c_file("", "#include <ivchat.h>\n#include <stdio.h>\n"),
    "apps/appjson.c": c_file("", "#include <jansson.h>\n"),
    "tests/fuzz/fuzz_header.c": c_file(""),
    "tests/fuzz/corpus/header/one": "x",
    "docs/GUIDE.md": "See [the other](OTHER.md) and [home](https://example.org).\n",
    "docs/OTHER.md": "Text.\n",
    "CMakeLists.txt": HASH_SPDX,
    "Makefile": HASH_SPDX + "all:\n\ttrue\n",
    "tools/make_tables.py": HASH_SPDX,
}

# rule, what is wrong, file, text (None = the clean one), line that must be named
SPOILT = [
    ("layers", "upwards", "src/base/buf.c", c_file(include='#include "ops/ops.h"\n'), 3),
    ("layers", "sideways", "src/media/sizes.c", c_file(include='#include "weights/bind.h"\n'), 3),
    ("layers", "model sees no kernels", "src/model/vit.c", c_file(include='#include "kernels/kernels.h"\n'), 3),
    ("layers", "no room in the name", "src/ops/add.c", c_file(include='#include "ops.h"\n'), 3),
    ("layers", "the public header below engine", "src/model/vit.c", c_file(include="#include <ivchat.h>\n"), 3),
    ("layers", "unknown room", "src/cellar/wine.c", c_file(), 1),
    ("layers", "apps look inside", "apps/main.c", c_file(include='#include "base/buf.h"\n'), 3),
    ("layers", "public header looks inside", "include/ivchat.h", SPDX + '#include "base/buf.h"\n', 2),
    ("doors", "second door to FFmpeg", "src/media/sizes.c", c_file(include="#include <libswscale/swscale.h>\n"), 3),
    ("doors", "jansson elsewhere in the library", "src/text/vocab.c", c_file(include="#include <jansson.h>\n"), 3),
    ("doors", "jansson twice in apps", "apps/otherjson.c", c_file(include="#include <jansson.h>\n"), 1),
    ("doors", "intrinsics outside kernels", "src/ops/add.c", c_file(include="#include <immintrin.h>\n"), 3),
    ("doors", "ARM intrinsics among x86", "src/kernels/x86/add_avx2.c", c_file(include="#include <arm_neon.h>\n"), 3),
    ("doors", "second door to the network", "src/base/buf.c", c_file(include="#include <curl/curl.h>\n"), 3),
    ("doors", "unknown library", "src/base/buf.c", c_file(include="#include <zlib.h>\n"), 3),
    ("calls", "strcpy", "src/base/buf.c", c_file("void f(char *d)\n{\n    strcpy(d, d);\n}\n"), 5),
    ("calls", "sprintf in a test", "tests/unit/test_a.c", c_file("void f(char *d)\n{\n    sprintf(d, d);\n}\n"), 5),
    ("calls", "system in apps", "apps/main.c", c_file('int f(void)\n{\n    return system("ls");\n}\n'), 5),
    ("calls", "malloc", "src/base/buf.c", c_file("void *f(void)\n{\n    return malloc(1);\n}\n"), 5),
    ("calls", "free", "src/engine/open.c", c_file("void f(void *p)\n{\n    free(p);\n}\n"), 5),
    ("calls", "printf", "src/engine/open.c", c_file('void f(void)\n{\n    printf("x");\n}\n'), 5),
    ("calls", "abort", "src/base/mem.c", c_file("void f(void)\n{\n    abort();\n}\n"), 5),
    ("calls", "stderr", "src/base/buf.c", c_file('void f(void)\n{\n    fputs("x", stderr);\n}\n'), 5),
    ("calls", "getenv in model", "src/model/vit.c", c_file('char *f(void)\n{\n    return getenv("X");\n}\n'), 5),
    ("length", "801 lines", "src/base/buf.c", c_file("// x\n" * 799), 801),
    ("weight", "41 MiB", "docs/film.mp4", b"\0" * (41 << 20), 1),
    ("names", "twice", "tests/support/buf.c", c_file(), 1),
    ("names", "says nothing", "src/base/string_utils.c", c_file(), 1),
    ("names", "says nothing in Python", "tools/common.py", HASH_SPDX, 1),
    ("licence", "C", "src/base/buf.c", "// x\n// y\n", 1),
    ("licence", "CMake", "CMakeLists.txt", "cmake_minimum_required(VERSION 3.25)\n", 1),
    ("licence", "script", "tools/make_tables.py", "#!/usr/bin/env python3\nimport os\n", 2),
    ("opening", "no comment", "src/base/buf.c", SPDX + "#include <stdio.h>\n", 2),
    ("unfinished", "later", "src/base/buf.c", c_file("// TO" "DO: all of it\n"), 3),
    ("unfinished", "in a document", "docs/OTHER.md", "FIX" "ME\n", 1),
    ("flags", "fast math", "CMakeLists.txt", HASH_SPDX + "add_compile_options(-ff" "ast-math)\n", 2),
    ("flags", "this machine", "Makefile", HASH_SPDX + "CFLAGS = -march=" "native\n", 2),
    ("paths", "a machine's folder", "docs/OTHER.md", "Go to /wo" "rk/main.\n", 1),
    ("blanks", "tab", "src/base/buf.c", c_file("//\tx\n"), 3),
    ("blanks", "at the end", "docs/OTHER.md", "Text. \n", 1),
    ("blanks", "carriage return", "docs/OTHER.md", "Text.\r\n", 1),
    ("blanks", "last line", "docs/OTHER.md", "Text.", 1),
    ("blanks", "conflict", "docs/OTHER.md", "a\n" + "<" * 7 + " HEAD\n", 2),
    ("blanks", "Latin-1", "docs/OTHER.md", b"caf\xe9\n", 1),
    ("shapes", "_t", "src/base/buf.c", c_file("typedef struct buf buf_t;\n"), 3),
    ("shapes", "_t beside NVIDIA's header", "tests/gpu/emulate/other.h",
     header("OTHER_H", "typedef struct lt *cublasLtHandle_t;\n"), 4),
    ("shapes", "guard", "src/ops/ops.h", header("OPS_H"), 1),
    ("shapes", "#if in model", "src/model/vit.c", c_file("#if 1\n#endif\n"), 3),
    ("shapes", ".c included", "tests/unit/test_a.c", c_file(include='#include "base/buf.c"\n'), 3),
    ("fuzzing", "no seeds", "tests/fuzz/fuzz_other.c", c_file(), 1),
    ("fuzzing", "no target", "tests/fuzz/corpus/other/one", "x", 1),
    ("fuzzing", "large seed", "tests/fuzz/corpus/header/two", "x" * (300 << 10), 1),
    ("links", "to nothing", "docs/OTHER.md", "a\n[b](docs/MISSING.md)\n", 2),
    ("layout", "indent", "src/base/buf.c", c_file("int  x;\n"), 3),
]


def write(top, path, content):
    full = os.path.join(top, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "wb") as f:
        f.write(content if isinstance(content, bytes) else content.encode())


def run_lint(top):
    return subprocess.run([sys.executable, os.path.join(ROOT, "tools", "lint.py"), "--root", top],
                          stdout=subprocess.DEVNULL, check=False).returncode


def findings(top):
    tree = lint.Tree(top)
    return [(path, line, rule, text) for rule, check, _ in lint.RULES for path, line, text in check(tree)]


def main():
    report = tap.Report()
    with tempfile.TemporaryDirectory() as top:
        for path, content in CLEAN.items():
            write(top, path, content)
        shutil.copy(os.path.join(ROOT, ".clang-format"), top)
        found = findings(top)
        report.ok(not found, "a clean tree passes", found)
        report.ok(run_lint(top) == 0, "and lint.py ends with 0 then")
        for rule, what, path, content, line in SPOILT:
            name = "%s: %s" % (rule, what)
            if rule == "layout" and not lint.clang_format():
                report.skip(name, "clang-format 14 is not installed")
                continue
            write(top, path, content)
            found = findings(top)
            rest = {f[2] for f in found} - {rule}
            report.ok((path, line, rule) in {f[:3] for f in found} and not rest, name, found)
            if path in CLEAN:
                write(top, path, CLEAN[path])
            else:
                os.remove(os.path.join(top, path))
        write(top, "src/base/buf.c", "")
        report.ok(run_lint(top) == 1, "lint.py ends with 1 when there is a finding")
    untested = {r[0] for r in lint.RULES} - {s[0] for s in SPOILT}
    report.ok(not untested, "no rule without a red case", sorted(untested))
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""House rules that a script can see. Prints path:line: [rule] text; exit status 1 if there is any.

  tools/lint.py [--tap] [--root DIR] [--rule NAME]... [--list] [--format]

Files are those git knows or would add; outside a git checkout every file below the root except build*/.
Each rule is a generator of (path, line, text) over a Tree, named in RULES with one line of why.
tests/house/test_lint.py shows every rule red once.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

MAX_LINES = 800
TABLE_MARK = "lint: table"  # in the first 20 lines of a file that is mostly data
MAX_SEED_BYTES = 256 << 10
MAX_SEEDS_BYTES = 4 << 20
MAX_TREE_BYTES = 40 << 20
FORMAT_MAJOR = 14

# room -> rooms whose headers it may include; "public" is include/ivchat.h
ROOMS = {
    "base": "base",
    "tensor": "base tensor",
    "kernels": "base tensor kernels",
    "ops": "base tensor kernels ops",
    "gpu": "base tensor kernels ops gpu",
    "weights": "base tensor weights",
    "media": "base tensor kernels media",
    "text": "base tensor text",
    "hub": "base hub",
    "model": "base tensor ops weights model",
    "chat": "base tensor ops model media text chat",
    "engine": "base tensor kernels ops gpu weights media text hub model chat engine public",
    "train": "base tensor ops weights media text model chat train",
}
# foreign header (regex on the name in <>) -> the only files that may include it (regexes)
DOORS = [
    (r"lib(av|sw)\w+/.*", [r"src/media/libav\.h"]),
    (r"jansson\.h", [r"src/base/json\.c", r"apps/\w*json\w*\.c", r"tests/.*"]),
    (r"histedit\.h", [r"apps/editor\.c"]),
    (r"utf8proc\.h", [r"src/text/unicode\.c"]),
    (r"openssl/.*", [r"src/base/sha256\.c"]),
    # a person's downloads and a server's fetches for strangers follow other rules
    (r"curl/.*", [r"src/hub/http\.c", r"apps/serve/mediafetch\.c"]),
    (r"microhttpd\.h", [r"apps/serve/httpd\.c", r"tests/hub/.*"]),
    (r"gnutls/gnutls\.h|gnutls/crypto\.h", [r"apps/serve/digest\.c", r"tests/hub/.*"]),
    (r"gnutls/.*", [r"tests/hub/.*"]),
    (r"seccomp\.h", [r"apps/serve/decodechild\.c"]),
    (r"\w*intrin\.h", [r"src/kernels/x86/.*"]),
    (r"oneapi/dnnl/.*|omp\.h", [r"src/kernels/onednn/.*"]),
    (r"cpuid\.h", [r"src/base/cpu\.c"]),
    (r"arm_(neon|sve|acle|bf16)\.h", [r"src/kernels/arm/.*"]),
    (r"cuda.*|cublas.*|nv\w+\.h", [r"src/gpu/cuda/.*", r"tests/gpu/.*"]),
    (r"cmocka\.h", [r"tests/.*"]),
    (r"sanitizer/.*", [r"src/base/.*", r"tests/.*"]),
]
SYSTEM = set("""assert ctype errno fenv float inttypes limits locale math setjmp signal stdalign stdarg stdatomic
stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype complex iso646
dirent dlfcn fcntl fnmatch getopt glob grp iconv langinfo libgen malloc netdb poll pthread pwd regex sched
semaphore strings spawn syslog tar termios ucontext unistd utime wordexp features endian execinfo link elf
arpa/inet netinet/in netinet/tcp sys/auxv sys/file sys/ioctl sys/mman sys/random sys/resource sys/select sys/socket
sys/stat sys/statvfs sys/syscall sys/time sys/types sys/uio sys/un sys/utsname sys/wait sys/prctl sys/sysinfo
sys/eventfd sys/epoll linux/openat2 linux/perf_event linux/version asm/hwcap asm/unistd""".split())

EVERYWHERE = "strcpy strcat sprintf vsprintf gets atoi atol atoll atof alloca strtok system popen tmpnam mktemp"
LIBRARY = "exit _exit _Exit quick_exit abort printf vprintf puts putchar perror signal setlocale"
HEAP = "malloc calloc realloc reallocarray free aligned_alloc posix_memalign memalign strdup strndup"
ENVIRONMENT = "getenv secure_getenv setenv unsetenv putenv"
VAGUE = {"util", "utils", "misc", "common", "helper", "helpers", "host", "stuff", "tmp", "new", "old", "v2"}
# spelt in pieces: these rules read this file too
UNFINISHED = re.compile(r"\b(%s)\b" % "|".join(("TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK")))
PRIVATE_PATH = re.compile("|".join(("/wo" "rk/", "/fa" "rm/", "/ro" "ot/", "/tmp/ba" "sh")))
BAD_FLAGS = re.compile("|".join(("-ff" "ast-math", "-Of" "ast", "-march=" "native", "-mtune=" "native")))

C_FILE = re.compile(r"\.(c|h)$")
BINARY = re.compile(r"\.(npy|png|jpe?g|gif|webp|mp4|mkv|webm|avi|mov|ogv|gguf|safetensors|model|zst|gz|bin)$")


class Tree:
    """The files under root and their text, read once."""

    def __init__(self, root):
        self.root = root
        self.text_of = {}
        git = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
                             capture_output=True, check=False)
        if git.returncode == 0 and os.path.exists(os.path.join(root, ".git")):
            names = git.stdout.decode().split("\0")
        else:
            names = []
            for folder, sub, files in os.walk(root):
                sub[:] = [s for s in sub if s != ".git" and not s.startswith("build")]
                names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
        self.files = sorted(n for n in names if n and os.path.isfile(os.path.join(root, n)))

    def text(self, path):
        if path not in self.text_of:
            with open(os.path.join(self.root, path), "rb") as f:
                raw = f.read()
            self.text_of[path] = None if b"\0" in raw else raw.decode("utf-8", "replace")
        return self.text_of[path]

    def select(self, pattern):
        return [f for f in self.files if re.search(pattern, f)]

    def c_files(self, *tops):
        return [f for f in self.files
                if C_FILE.search(f) and (not tops or f.split("/")[0] in tops) and self.text(f) is not None]

    def texts(self):
        """(path, text) of every text file that people write; seeds, fixtures and third parties excepted."""
        for f in self.files:
            if f.startswith(("tests/fuzz/corpus/", "tests/fixtures/", "third_party/")) or BINARY.search(f):
                continue
            if self.text(f) is not None:
                yield f, self.text(f)


def lines(text):
    return enumerate(text.split("\n"), 1)


TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def code_only(text):
    """text with comments and the insides of literals blanked, line numbers kept; #include stays whole."""
    def blank(match):
        s = match.group(0)
        start = text.rfind("\n", 0, match.start()) + 1
        if s[0] == '"' and re.match(r"\s*#\s*include", text[start:match.start()]):
            return s
        return re.sub(r"[^\n]", " ", s) if s[0] == "/" else s[0] + " " * (len(s) - 2) + s[-1]
    return TOKEN.sub(blank, text)


INCLUDE = re.compile(r"^\s*#\s*include\s*([<\"])([^>\"]+)[>\"]")


def includes(tree, path):
    for n, line in lines(code_only(tree.text(path))):
        found = INCLUDE.match(line)
        if found:
            yield n, found.group(1), found.group(2)


# ---------------------------------------------------------------- rules

def layers(tree):
    for path in tree.c_files("src"):
        parts = path.split("/")
        room = parts[1] if len(parts) > 2 else ""
        if room not in ROOMS:
            yield path, 1, "src/%s is no room of the house (tools/lint.py: ROOMS)" % room
            continue
        for n, kind, name in includes(tree, path):
            if kind == "<" and name != "ivchat.h":
                continue
            other = "public" if name == "ivchat.h" else name.split("/")[0]
            if other != "public" and "/" not in name:
                yield path, n, 'write "%s/%s"' % (room, name)
            elif other not in ROOMS[room].split():
                yield path, n, "%s must not include %s (allowed: %s)" % (room, name, ROOMS[room])
    own = {os.path.basename(f) for f in tree.select(r"^apps/.*\.h$")}
    for path in tree.c_files("apps"):
        for n, kind, name in includes(tree, path):
            if kind == '"' and name != "ivchat.h" and os.path.basename(name) not in own:
                yield path, n, "apps include ivchat.h and headers of apps/ only, not " + name
    for path in tree.c_files("include"):
        for n, kind, name in includes(tree, path):
            if kind == '"':
                yield path, n, "the public header includes %s" % name


def doors(tree):
    apps_json = set()
    for path in tree.c_files():
        for n, kind, name in includes(tree, path):
            if kind != "<" or name == "ivchat.h" or name[:-2] in SYSTEM:
                continue
            for pattern, allowed in DOORS:
                if re.fullmatch(pattern, name):
                    if not any(re.fullmatch(a, path) for a in allowed):
                        yield path, n, "<%s> has its door in %s" % (name, " ".join(allowed).replace("\\", ""))
                    elif path.startswith("apps/"):
                        apps_json.add((name, path))
                    break
            else:
                yield path, n, "<%s> is neither C, POSIX nor a known library (tools/lint.py: DOORS)" % name
    for name in {n for n, _ in apps_json}:
        users = sorted(p for n, p in apps_json if n == name)
        for path in users[1:]:
            yield path, 1, "<%s> has its one door in apps already: %s" % (name, users[0])


def calls(tree):
    def pattern(words):
        return re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(words.split()))
    for path in tree.c_files("src", "apps", "tests", "include"):
        banned = [(pattern(EVERYWHERE), "")]
        if path.startswith("src/"):
            banned.append((pattern(LIBRARY), "the library neither prints nor ends the process: "))
            if path != "src/base/mem.c":
                banned.append((pattern(HEAP), "the heap has its door in base/mem.h: "))
            if not path.startswith(("src/engine/", "src/hub/")):
                banned.append((pattern(ENVIRONMENT), "the environment is read in engine, hub and apps: "))
            banned.append((re.compile(r"\b(stdout|stderr)\b"), "the library speaks through callbacks: "))
        for n, line in lines(code_only(tree.text(path))):
            if line.lstrip().startswith("#"):
                continue
            for regex, why in banned:
                for hit in regex.finditer(line):
                    yield path, n, "%s%s is banned" % (why, hit.group(1))


def length(tree):
    for path, text in tree.texts():
        if not re.search(r"\.(c|h|py|sh|cmake|cu)$|CMakeLists\.txt$", path):
            continue
        n = text.count("\n")
        if n > MAX_LINES and TABLE_MARK not in "\n".join(text.split("\n")[:20]):
            yield path, n, "%d lines, at most %d" % (n, MAX_LINES)


def weight(tree):
    total = sum(os.path.getsize(os.path.join(tree.root, f)) for f in tree.files)
    if total > MAX_TREE_BYTES:
        largest = sorted(tree.files, key=lambda f: -os.path.getsize(os.path.join(tree.root, f)))[:3]
        yield largest[0], 1, "the tree has %d bytes, at most %d; largest: %s" % (total, MAX_TREE_BYTES, largest)


def names(tree):
    seen = {}
    for path in tree.select(r"\.(c|h|py|sh|cu|cuh)$"):
        if path.startswith(("third_party/", "tests/fuzz/corpus/")):
            continue
        name = os.path.basename(path)
        if name in seen and name not in ("__init__.py", "__main__.py", "setup.py", "conftest.py"):
            yield path, 1, "%s exists already: %s" % (name, seen[name])
        seen.setdefault(name, path)
        for word in re.split(r"[_.\-]", name)[:-1]:
            if word in VAGUE:
                yield path, 1, "a file is named by what it does, not '%s'" % word


def licence(tree):
    for path, text in tree.texts():
        if not re.search(r"\.(c|h|cu|py|sh|cmake)$|(^|/)(CMakeLists\.txt|Makefile)$|^\.ci/", path):
            continue
        head = text.split("\n")[:2]
        if not head[0].startswith("#!"):
            head = head[:1]
        if "SPDX-License-Identifier: MIT" not in head[-1]:
            yield path, len(head), "no SPDX line"


def opening(tree):
    for path in tree.c_files("src", "apps"):
        if path.endswith(".c") and not re.match(r"\s*(//|/?\*)", (tree.text(path).split("\n") + [""])[1]):
            yield path, 2, "a .c file opens with what it owns and what is easy to get wrong"


def unfinished(tree):
    for path, text in tree.texts():
        for n, line in lines(text):
            if UNFINISHED.search(line):
                yield path, n, "unfinished: " + UNFINISHED.search(line).group(1)


def flags(tree):
    for path, text in tree.texts():
        if path.endswith(".md"):
            continue
        for n, line in lines(text):
            if BAD_FLAGS.search(line):
                yield path, n, "%s is never used here" % BAD_FLAGS.search(line).group(0)


def paths(tree):
    for path, text in tree.texts():
        for n, line in lines(text):
            if PRIVATE_PATH.search(line):
                yield path, n, "path of one machine: " + PRIVATE_PATH.search(line).group(0)


def blanks(tree):
    for path, text in tree.texts():
        tabs_allowed = re.search(r"(^|/)Makefile$|\.(tsv|gitmodules)$|^LICENSE", path)
        for n, line in lines(text):
            if "\r" in line:
                yield path, n, "carriage return"
            elif line != line.rstrip():
                yield path, n, "blanks at the end of the line"
            elif "\t" in line and not tabs_allowed:
                yield path, n, "tab"
            elif re.match(r"(<{7}|>{7}) |={7}$", line):
                yield path, n, "conflict marker"
        if text and not text.endswith("\n"):
            yield path, text.count("\n") + 1, "no newline at the end"
        if "\ufffd" in text:
            yield path, 1, "not UTF-8"


# Stands for NVIDIA's header of the same name where kernels are emulated: its names are NVIDIA's, those in _t too.
VENDOR_NAMES = "tests/gpu/emulate/cublasLt.h"


def shapes(tree):
    """Forms that the compiler accepts and the house does not."""
    for path in tree.c_files("src", "apps", "tests", "include"):
        code = code_only(tree.text(path))
        for n, line in lines(code):
            if re.search(r"^\s*#\s*include\s*\"[^\"]*\.c\"", line):
                yield path, n, "a .c file is linked, not included"
            if path != VENDOR_NAMES and re.search(r"^\s*(typedef\b.*|\}\s*)\b\w+_t\s*;", line):
                yield path, n, "names in _t belong to POSIX; use the struct's tag"
            if path.startswith("src/model/") and re.match(r"\s*#\s*(if|ifdef|elif)\b", line):
                yield path, n, "model code knows no device and no ISA"
        if path.startswith("src/") and path.endswith(".h"):
            guard = "IV_" + re.sub(r"\W", "_", path[len("src/"):]).upper()
            if not re.search(r"#ifndef %s\n#define %s\n" % (guard, guard), code):
                yield path, 1, "include guard %s" % guard


def fuzzing(tree):
    total = 0
    for path in tree.select(r"^tests/fuzz/fuzz_\w+\.c$"):
        folder = "tests/fuzz/corpus/%s/" % os.path.basename(path)[len("fuzz_"):-2]
        if not any(f.startswith(folder) for f in tree.files):
            yield path, 1, "no seed in " + folder
    for path in tree.select(r"^tests/fuzz/corpus/"):
        size = os.path.getsize(os.path.join(tree.root, path))
        total += size
        if size > MAX_SEED_BYTES:
            yield path, 1, "%d bytes, a seed has at most %d" % (size, MAX_SEED_BYTES)
        name = path.split("/")[3]
        if "tests/fuzz/fuzz_%s.c" % name not in tree.files:
            yield path, 1, "seed of no target"
    if total > MAX_SEEDS_BYTES:
        yield "tests/fuzz/corpus", 1, "%d bytes of seeds, at most %d" % (total, MAX_SEEDS_BYTES)


def links(tree):
    for path in tree.select(r"\.md$"):
        text = re.sub(r"```.*?```", lambda m: re.sub(r"[^\n]", " ", m.group(0)), tree.text(path) or "",
                      flags=re.DOTALL)
        for n, line in lines(text):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:|#", target):
                    continue
                file = os.path.normpath(os.path.join(os.path.dirname(path), target.split("#")[0]))
                if not os.path.exists(os.path.join(tree.root, file)):
                    yield path, n, "link to nothing: " + target


def clang_format():
    """Path of clang-format FORMAT_MAJOR, or None: other versions lay out differently."""
    for name in ("clang-format-%d" % FORMAT_MAJOR, "clang-format"):
        tool = shutil.which(name)
        if tool:
            said = subprocess.run([tool, "--version"], capture_output=True, check=False).stdout.decode()
            if re.search(r"version %d\." % FORMAT_MAJOR, said):
                return tool
    return None


def layout(tree):
    tool, files = clang_format(), tree.c_files("src", "apps", "tests", "include")
    if not tool or not files:
        return
    done = subprocess.run([tool, "--dry-run", "-Werror", "--style=file", *files], cwd=tree.root,
                          capture_output=True, check=False)
    spots = {}
    for line in done.stderr.decode("utf-8", "replace").split("\n"):
        hit = re.match(r"(.+?):(\d+):\d+: (?:error|warning): ", line)
        if hit:
            spots.setdefault(hit.group(1), set()).add(int(hit.group(2)))
    for path, where in sorted(spots.items()):
        yield path, min(where), "`make format` changes %d lines" % len(where)
    if done.returncode not in (0, 1):
        yield ".clang-format", 1, "clang-format ended with %d" % done.returncode


RULES = [
    ("layers", layers, "rooms include downwards only"),
    ("doors", doors, "a foreign library has one door"),
    ("calls", calls, "banned calls"),
    ("length", length, "no file beyond %d lines" % MAX_LINES),
    ("weight", weight, "the tree stays below %d MiB" % (MAX_TREE_BYTES >> 20)),
    ("names", names, "file names are unique and say something"),
    ("licence", licence, "SPDX line first"),
    ("opening", opening, "a .c file says what it owns"),
    ("unfinished", unfinished, "nothing is left for later"),
    ("flags", flags, "no flag that changes results from machine to machine"),
    ("paths", paths, "no path of one machine"),
    ("blanks", blanks, "no tabs, no blanks at line ends"),
    ("shapes", shapes, "guards, typedefs, no included .c, no #if in model code"),
    ("fuzzing", fuzzing, "each fuzz target has seeds, and they are small"),
    ("links", links, "links in documents lead somewhere"),
    ("layout", layout, "clang-format"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--rule", action="append", choices=[r[0] for r in RULES], help="only this rule")
    parser.add_argument("--tap", action="store_true", help="one TAP test a rule")
    parser.add_argument("--list", action="store_true", help="name the rules")
    parser.add_argument("--format", action="store_true", help="lay out all C files")
    options = parser.parse_args()
    tree = Tree(os.path.abspath(options.root))
    if options.list:
        for name, _, why in RULES:
            print("%-12s %s" % (name, why))
        return 0
    if options.format:
        tool = clang_format()
        if not tool:
            print("clang-format %d is not installed" % FORMAT_MAJOR, file=sys.stderr)
            return 1
        return subprocess.run([tool, "-i", "--style=file", *tree.c_files("src", "apps", "tests", "include")],
                              cwd=tree.root, check=False).returncode
    chosen = [r for r in RULES if not options.rule or r[0] in options.rule]
    total = 0
    for number, (name, rule, why) in enumerate(chosen, 1):
        found = list(rule(tree))
        total += len(found)
        if options.tap:
            skip = " # SKIP clang-format %d is not installed" % FORMAT_MAJOR \
                if name == "layout" and not clang_format() else ""
            print("%s %d - lint %s: %s%s" % ("not ok" if found else "ok", number, name, why, skip))
        for path, line, text in found:
            print("%s%s:%d: [%s] %s" % ("# " if options.tap else "", path, line, name, text))
    if options.tap:
        print("1..%d" % len(chosen))
    elif not total:
        print("lint: %d files, nothing to say" % len(tree.files))
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""What the tests of the command line share: running the program, TAP lines, models and media.

The program is $IVCHAT. Models: TINY, whose answers take a tenth of the time, wherever the size proves nothing; the golden ones
of $IVCHAT_TEST_SHARED, else the first folder of tests/fixtures with a config.json. Media are made here from the standard
library alone.
"""
import array
import os
import signal
import re
import struct
import subprocess
import sys
import tempfile
import zlib

# a shell without job control starts background work with SIGINT and SIGQUIT ignored, and what is ignored stays so in
# every program below; the tests send signals that must arrive
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
IVCHAT = os.environ.get("IVCHAT", os.path.join(ROOT, "build", "ivchat"))
SHARED = os.environ.get("IVCHAT_TEST_SHARED", os.path.join(ROOT, "..", "shared"))
TINY = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
SCRATCH = tempfile.TemporaryDirectory(prefix="ivchat-apps-")


class Tap:
    """Numbers the tests, prints the plan at the end, exits with 1 when one failed."""

    def __init__(self):
        self.n = self.bad = 0

    def ok(self, good, name, note=""):
        self.n += 1
        print("%s %d - %s" % ("ok" if good else "not ok", self.n, name))
        if not good:
            self.bad += 1
            for line in str(note).splitlines()[-30:]:
                print("# " + line)
        sys.stdout.flush()
        return good

    def skip(self, name, reason):
        self.n += 1
        print("SKIP " + reason)
        print("ok %d - %s # SKIP %s" % (self.n, name, reason))

    def done(self):
        print("1..%d" % self.n)
        sys.exit(1 if self.bad else 0)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self):
        return self.err.splitlines()

    def __str__(self):
        return "exit %s\nstdout: %s\nstderr: %s" % (self.code, self.out[:2000], self.err[:2000])


def environment(extra=None):
    """Ours without any IVCHAT_ option, plus extra; nothing is kept in the folders of who runs the tests."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("IVCHAT_") and k != "NO_COLOR"}
    env.update({"XDG_STATE_HOME": path("state"), "EDITRC": path("editrc"), "LC_ALL": "C.UTF-8"})
    env.update(extra or {})
    return env


def run(*args, stdin=b"", env=None, timeout=120, cwd=None):
    """Runs the program; stdin is bytes, a text or an open file."""
    given = {"stdin": stdin} if hasattr(stdin, "fileno") else {
        "input": stdin.encode() if isinstance(stdin, str) else stdin}
    done = subprocess.run([IVCHAT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(env),
                          timeout=timeout, check=False, cwd=cwd, **given)
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def path(*names):
    return os.path.join(SCRATCH.name, *names)


def model(name="tiny-hd"):
    """Folder of a small model, None when there is none."""
    golden = os.path.join(SHARED, "golden", name)
    if os.path.isfile(os.path.join(golden, "config.json")):
        return golden
    fixtures = os.path.join(ROOT, "tests", "fixtures")
    for folder, folders, files in sorted(os.walk(fixtures)):
        folders.sort()
        if "config.json" in files:
            return folder
    return None


NO_MODEL = "no golden data beside the checkout and no model in tests/fixtures"


def sanitized():
    with open(IVCHAT, "rb") as f:
        return b"__asan_init" in f.read()


# ---- media

def make_video(name="clip.y4m", frames=20, width=64, height=48):
    """A y4m file: a bright square that moves over a gradient; grey chroma."""
    out = path(name)
    with open(out, "wb") as f:
        f.write(b"YUV4MPEG2 W%d H%d F10:1 Ip A1:1 C420jpeg\n" % (width, height))
        for t in range(frames):
            f.write(b"FRAME\n")
            for y in range(height):
                f.write(bytes(235 if abs(x - 3 * t) < 6 and 10 < y < 30 else 16 + 2 * y + x for x in range(width)))
            f.write(bytes([128]) * (width // 2 * (height // 2) * 2))
    return out


def make_image(name="picture.png", width=40, height=30):
    out = path(name)
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (6 * x, 8 * y, 99)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(out, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return out


def read_npy(name):
    """(shape, array) of a version 1.0 .npy file; checks magic and alignment."""
    with open(name, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x93NUMPY\x01\x00", "magic of " + name
    size = struct.unpack("<H", data[8:10])[0]
    assert (10 + size) % 64 == 0 and data[9 + size:10 + size] == b"\n", "padding of " + name
    header = data[10:10 + size].decode()
    kind = re.search(r"'descr': '([^']+)'", header).group(1)
    shape = [int(x) for x in re.findall(r"\d+", re.search(r"'shape': \(([^)]*)\)", header).group(1))]
    out = array.array({"<f4": "f", "<i4": "i"}[kind])
    out.frombytes(data[10 + size:])
    n = 1
    for d in shape:
        n *= d
    assert n == len(out), "size of " + name
    return shape, out

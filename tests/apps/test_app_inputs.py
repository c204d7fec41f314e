#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Inputs that are not what they should be: one line that says so, the right exit code, nothing on standard output."""
import os

import program
from program import Tap, make_video, path, run

tap = Tap()
model = program.TINY

BASE = ["chat", "-m", model, "-n", "2"]
clip = make_video()
with open(path("page.mp4"), "w", encoding="utf-8") as f:
    f.write("<html>404 not found</html>")
open(path("empty.mp4"), "w", encoding="utf-8").close()
with open(clip, "rb") as f, open(path("cut.y4m"), "wb") as g:
    g.write(f.read(40))
for what, args, code in (
        ("a video that is not there", ["--video", path("none.mp4"), "-p", "x"], 4),
        ("text named .mp4", ["--video", path("page.mp4"), "-p", "x"], 4),
        ("an empty file", ["--video", path("empty.mp4"), "-p", "x"], 4),
        ("a header without frames", ["--video", path("cut.y4m"), "-p", "x"], 4),
        ("a folder as video", ["--video", program.SCRATCH.name, "-p", "x"], 4),
        ("a device as video", ["--video", "/dev/null", "-p", "x"], 4),
        ("an image that is none", ["--image", path("page.mp4"), "-p", "x"], 4),
        ("a part behind the end", ["--video", clip, "--start", "100", "-p", "x"], 4),
        ("a prompt longer than --ctx", ["--ctx", "8", "-p", "a b c d e f g h i j k l m n o p"], 5),
        ("invalid UTF-8 in a question", ["-p", b"\xff\xfe".decode("utf-8", "surrogateescape")], 2),
        ("a tier this processor lacks", ["--cpu", "avx9000", "-p", "x"], 2),
        ("a variant of another language model", ["--variant", "internlm", "-p", "x"], 2)):
    r = run(*BASE, *args)
    tap.ok(r.code == code and r.out == "" and len([x for x in r.lines if x.startswith("ivchat chat: ")]) == 1,
           "%s: exit %d and one line" % (what, code), r)
r = run(*BASE, "--cpu", "onednn", "-p", "x")
tiers = [x for x in run("--version").out.splitlines() if x.startswith("cpu: ")][0].split()
tap.ok(r.code == 0 if "onednn" in tiers else r.code == 2 and "oneDNN" in r.err, "oneDNN, which few builds have", r)
r = run(*BASE, "-q", stdin=b"good\nbad\0line\n")
tap.ok(r.code == 1 and "line 2: byte 4 is not text" in r.err and r.out.count("\n") >= 1, "NUL in a question names its line", r)
r = run(*BASE, "-q", stdin=b"x" * (1 << 20) + b"y\n")
tap.ok(r.code == 5 and "longer than 1 MiB" in r.err, "a question of more than 1 MiB", r)
r = run(*BASE, "-q", stdin=b"")
tap.ok(r.code == 0 and r.out == "", "no question at all", r)
os.mkdir(path("pair"))
with open(path("pair/NAME-Q8_0.gguf"), "w", encoding="utf-8") as f:
    f.write("GGUF")
for what, args, code, text in (
        ("a URL as video", ["--video", "http://localhost/a.mp4", "-p", "x"], 4, "URLs are not fetched"),
        ("a part behind the end", ["--video", clip, "--start", "100", "-p", "x"], 4, "no frame after 100 s; the last one is at"),
        ("a folder of GGUF files", ["-m", path("pair"), "-p", "x"], 3, "name one of them: " + path("pair/NAME-Q8_0.gguf")),
        ("a file as model", ["-m", clip, "-p", "x"], 3, "neither a model's folder nor a .gguf file")):
    r = run(*BASE, *args)
    tap.ok(r.code == code and r.out == "" and text in r.err, "%s: told as such" % what, r)
r = run("quantize", model, path("out.gguf"))
tap.ok(r.code == 2 and "out.gguf: DST is the folder" in r.err and not os.path.exists(path("out.gguf")),
       "quantize to a file", r)
tap.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""FFmpeg's libraries are opened with the first video or image, and not before; one that cannot be is told."""
import os
import re

import program
from program import Tap, make_video, path, run

tap = Tap()
BASE = ["-m", program.TINY]
ASK = ["chat", *BASE, "-n", "2", "-p", "x"]
NAMES = ("libavutil", "libavcodec", "libavformat", "libswscale")
clip = make_video()


def opened(*args, stdin=""):
    """Those of NAMES that the dynamic linker opens during a command, and how that ended."""
    r = run(*args, stdin=stdin, env={"LD_DEBUG": "files"})
    found = re.findall(r"file=(lib\w+)\.so\S* \[\d+\];  generating link map", r.err)
    return {n for n in NAMES if n in found}, r


for what, args, stdin in (("help", ["chat", "--help"], ""), ("tokens of a text", ["tokenize", *BASE], '"x"\n'),
                          ("what a model is", ["info", *BASE], ""), ("a question in text", ASK, "")):
    names, r = opened(*args, stdin=stdin)
    tap.ok(r.code == 0 and not names, what + " without FFmpeg", "exit %d, %s" % (r.code, sorted(names)))
names, r = opened(*ASK, "--video", clip)
tap.ok(r.code == 0 and names == set(NAMES), "a video with all of it", "exit %d, %s" % (r.code, sorted(names)))

# sonames of what `--version` tells
told = dict(re.findall(r"(lib\w+) (\d+)\.\d+\.\d+", [x for x in run("--version").out.splitlines() if x.startswith("media: ")][0]))
os.mkdir(path("libraries"))
for name in ("libavcodec", "libswscale"):
    soname = "%s.so.%s" % (name, told[name])
    spoilt = path("libraries", soname)
    with open(spoilt, "w", encoding="utf-8") as f:
        f.write("no library\n")
    env = {"LD_LIBRARY_PATH": path("libraries")}
    r = run(*ASK, "--video", clip, env=env)
    tap.ok(r.code == 1 and r.out == "" and len(r.lines) == 1 and "FFmpeg cannot be loaded" in r.err and soname in r.err,
           name + " cannot be opened: told with its name", r)
    r = run("--version", env=env)
    tap.ok(r.code == 0 and "media: none (FFmpeg cannot be loaded: " in r.out and soname in r.out, name + " is missing: --version", r)
    r = run(*ASK, env=env)
    tap.ok(r.code == 0 and r.out != "", name + " cannot be opened: text is answered", r)
    os.unlink(spoilt)
tap.done()

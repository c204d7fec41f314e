#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/demo.sh in a scratch tree with the test model and a short video: answers on standard output, frames and
times beside them, the way on at the end; to a file, to a closed pipe, without video, model or program."""
import os
import pty
import re
import shutil
import subprocess
import threading

import program
from program import IVCHAT, ROOT, Tap, environment, path

tap = Tap()
tree = path("a tree")
for folder in ("tools", "build", "examples/videos", "models"):
    os.makedirs(os.path.join(tree, folder))
shutil.copy(os.path.join(ROOT, "tools", "demo.sh"), os.path.join(tree, "tools"))
shutil.copy(IVCHAT, os.path.join(tree, "build", "ivchat"))
shutil.copytree(os.path.join(ROOT, "tests", "fixtures", "tiny-model"), os.path.join(tree, "models", "ivchat-small"))
VIDEO = os.path.join(tree, "examples", "videos", "demo.mp4")
shutil.copy(os.path.join(ROOT, "tests", "fixtures", "media", "bframes.mp4"), VIDEO)


def demo(exe="build/ivchat", env=None, cwd=tree, **how):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    done = subprocess.run(["sh", os.path.join(tree, "tools", "demo.sh"), exe], stdin=subprocess.DEVNULL, cwd=cwd,
                          env={**environment(), **(env or {})}, check=False, timeout=120, **how)
    return program.Result(done.returncode, (done.stdout or b"").decode("utf-8", "replace"),
                          (done.stderr or b"").decode("utf-8", "replace"))


r = demo()
answers, _, after = r.out.partition("\nThat was")
tap.ok(r.code == 0 and len(answers.splitlines()) >= 4 and answers.startswith("Two questions about"), "two answers", r)
tap.ok(re.search(r"^frame indices:( \d+)+$", r.err, re.MULTILINE) and r.err.count("timings: ") == 2 and
       re.search("^question 1: .*^question 2: ", r.err, re.MULTILINE | re.DOTALL) and "ivchat-small" in r.err,
       "frames, questions and times", r)
tap.ok("build/ivchat chat --video FILE" in after and "build/ivchat pull OpenGVLab/InternVideo2_chat_8B_HD" in after and
       "-m OpenGVLab/InternVideo2_chat_8B_HD" in after and tree not in after, "what to type next", r)
both = demo(stderr=subprocess.STDOUT).out
tap.ok(0 <= both.find("question 1:") < both.find("timings:") < both.find("question 2:") < both.find("That was"),
       "in one stream all stands in order", both)
for command in re.findall(r"^ .*?(build/ivchat chat .*)$", after, re.MULTILINE):
    words = command.replace('"', "").split(" -p ")[0].split()
    with open(VIDEO, "rb"):
        got = subprocess.run([words[0], *[VIDEO if w == "FILE" else w for w in words[1:]], "-q", "-n", "2"], cwd=tree,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
                             check=False, timeout=120)
    tap.ok(got.returncode == (3 if "-m" in words else 0), "can be typed: " + command, got.stderr)

with_twins = demo(env={"IVCHAT_JSON": "1", "IVCHAT_MODEL": "/nowhere", "IVCHAT_PROMPT": "x", "IVCHAT_QUIET": "1"})
tap.ok(with_twins.code == 0 and with_twins.out == r.out, "variables of the user's do not change it", with_twins)
there = demo(exe=os.path.join(tree, "build", "ivchat"), cwd=path())
tap.ok(there.code == 0 and there.out == r.out, "called from elsewhere", there)

# on a terminal
main, other = pty.openpty()
seen = []


def read():
    try:
        while True:
            seen.append(os.read(main, 4096))
    except OSError:
        pass


reader = threading.Thread(target=read)
reader.start()
code = demo(stdout=other, stderr=other, env={"TERM": "xterm"}).code
os.close(other)
reader.join(10)
os.close(main)
text = b"".join(seen).decode("utf-8", "replace")
tap.ok(code == 0 and "question 2: " in text and "what to type" not in text and "Next:" in text, "on a terminal", text)

# ---- what may be missing
with open("/dev/full", "wb") as full:
    tap.ok(demo(stdout=full).code == 1, "standard output is full: exit 1")
os.rename(VIDEO, VIDEO + ".away")
r = demo()
tap.ok(r.code == 4 and len(r.lines) == 1 and "examples/videos/demo.mp4" in r.err, "no video", r)
os.rename(VIDEO + ".away", VIDEO)
r = demo(env={"IVCHAT_MODELS_DIR": path("absent")})
tap.ok(r.code == 3 and "IVCHAT_MODELS_DIR" in r.err and "That was" not in r.out, "no model", r)
r = demo(exe="build/nothing")
tap.ok(r.code == 1 and "build/nothing" in r.err, "no program", r)
tap.done()

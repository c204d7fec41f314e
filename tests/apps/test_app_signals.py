#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Signals, closed streams and terminals: exit codes, nothing lost, nothing garbled."""
import json
import os
import re
import shutil
import signal
import subprocess
import time

import program
from program import IVCHAT, NO_MODEL, Tap, environment, make_video, path, run
from terminal import Terminal

tap = Tap()

# ---- without a model
with open("/dev/full", "wb") as full:
    done = subprocess.run([IVCHAT, "--help"], stdout=full, stderr=subprocess.PIPE, env=environment(), check=False)
tap.ok(done.returncode == 1 and b"standard output: No space left" in done.stderr, "--help onto a full device: exit 1",
       done)
for verb in ("--help", "--version"):
    done = subprocess.run(["sh", "-c", '"$0" "$1" >&-', IVCHAT, verb], stderr=subprocess.PIPE, env=environment(),
                          check=False)
    tap.ok(done.returncode == 1 and b"Bad file descriptor" in done.stderr, verb + " with standard output closed", done)
reader, writer = os.pipe()
os.close(reader)
done = subprocess.run([IVCHAT, "chat", "--help"], stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False)
os.close(writer)
tap.ok(done.returncode == 1 and done.stderr == b"", "a reader that went away: exit 1, no message", done)

model = program.model()
if not model:
    tap.skip("signals", NO_MODEL)
    tap.done()
clip = make_video()
LONG = ["chat", "-m", model, "--ignore-eos", "-n", "30000", "-p", "x"]


# ---- standard output that cannot be written
def output_to(target, *args):
    with open(target, "wb") as out:
        return subprocess.run([IVCHAT, *args], stdout=out, stderr=subprocess.PIPE, env=environment(), check=False,
                              timeout=60)


for name, args in (("streaming", LONG), ("--json", ["chat", "-m", model, "-n", "3", "-p", "x", "--json"]),
                   ("info", ["info", "-m", model])):
    done = output_to("/dev/full", *args)
    tap.ok(done.returncode == 1 and done.stderr.count(b"No space left") == 1, name + " onto a full device", done)
done = subprocess.run(["sh", "-c", '"$@" | head -c 1 >/dev/null; exit 0', "sh", IVCHAT, *LONG], stderr=subprocess.PIPE,
                      env=environment(), check=False, timeout=60)
tap.ok(done.stderr == b"", "the reader goes away in the middle of an answer: no message", done)
if os.path.isdir("/proc/self/fd"):
    with subprocess.Popen(["sh", "-c", 'exec "$@" >&-', "sh", IVCHAT, "chat", "-m", model, "-n", "3"],
                          stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as p:
        where, end = "", time.monotonic() + 10
        while where != "/dev/null" and time.monotonic() < end:
            try:
                if os.path.basename(os.readlink("/proc/%d/exe" % p.pid)) == os.path.basename(IVCHAT):
                    where = os.readlink("/proc/%d/fd/1" % p.pid)
            except OSError:
                pass  # not there yet
            time.sleep(0.02)
        _, err = p.communicate(b"hello\n", timeout=60)
        tap.ok(p.returncode == 1 and b"Bad file descriptor" in err and where == "/dev/null",
               "standard output closed: its number is not given to another file", (where, err))
else:
    tap.skip("standard output closed", "no /proc on this system")


# ---- signals
def start(*args, **kwargs):
    return subprocess.Popen([IVCHAT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), **kwargs)


for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
    with start(*LONG) as p:
        first = p.stdout.read(1)
        begun = time.monotonic()
        p.send_signal(number)
        out, err = p.communicate(timeout=60)
        took = time.monotonic() - begun
        tap.ok(p.returncode == code and len(first) == 1 and b"ivchat chat:" not in err,
               "%s while generating: exit %d" % (number.name, code), (p.returncode, err))
        tap.ok(took < 2, "%s: within two seconds" % number.name, took)
with start("chat", "-m", model, "-q", stdin=subprocess.PIPE) as p:
    p.stdin.write(b"hello\n")
    p.stdin.flush()
    p.stdout.read(1)
    time.sleep(0.3)  # the answer may still be running: either way the exit code is the signal's
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    tap.ok(p.returncode == 130, "SIGINT while waiting for a question: exit 130", (p.returncode, err))
fifo = path("fifo.mp4")
os.mkfifo(fifo)
with start("chat", "-m", model, "-q", "-p", "x", "--video", fifo) as p:
    time.sleep(1)
    p.send_signal(signal.SIGTERM)
    out, err = p.communicate(timeout=60)
    tap.ok(p.returncode in (4, 143) and out == b"", "a FIFO without a writer: refused, or stopped by SIGTERM",
           (p.returncode, err))
with start("embed", "-m", model, "--video", clip, "--stage", "vit", "-o", path("stopped.npy"), "--dtype", "f32") as p:
    time.sleep(0.2)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=60)
    left = [f for f in os.listdir(program.SCRATCH.name) if f.startswith("stopped")]
    tap.ok(p.returncode in (130, 0) and left == ([] if p.returncode else ["stopped.npy"]),
           "SIGINT while embedding leaves no part of a file", (p.returncode, left))
with start("chat", "-m", model, "-q", stdin=subprocess.PIPE,
           preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as p:
    p.stdin.write(b"hello\n")
    p.stdin.flush()
    first = p.stdout.readline()
    p.send_signal(signal.SIGINT)
    time.sleep(0.2)
    out, err = p.communicate(b"again\n", timeout=60)
    tap.ok(p.returncode == 0 and first and out, "a SIGINT that the parent ignores stays ignored", (p.returncode, err))

# ---- a model file that is truncated while it is mapped
if program.sanitized():
    tap.skip("a model file truncated while in use", "the sanitizer owns SIGBUS")
else:
    copy = path("copy")
    shutil.copytree(model, copy, copy_function=shutil.copy)
    with start("chat", "-m", copy, "-q", "-v", stdin=subprocess.PIPE) as p:
        p.stdin.write(b"hello\n")
        p.stdin.flush()
        p.stdout.readline()
        for f in os.listdir(copy):
            if f.endswith(".safetensors"):
                os.chmod(os.path.join(copy, f), 0o644)
                os.truncate(os.path.join(copy, f), 4096)
        p.stdin.write(b"and a longer question that meets other pages\n")
        out, err = p.communicate(timeout=60)
        tap.ok(p.returncode == 3 and b"changed while it was in use" in err, "a model file truncated while in use: exit 3",
               (p.returncode, out, err))


# ---- terminals
answer = run("chat", "-m", model, "-q", "-n", "8", "--video", clip, "-p", "x").out
t = Terminal("chat", "-m", model, "-n", "8", "--video", clip, "-p", "x")
code = t.wait()
shown = t.shown()
tap.ok(code == 0 and re.search(r"vision +\d+/\d+ \[[=> ]+\] +\d+%", t.text) and "\x1b[K" in t.text, "a bar on a terminal", t.text)
tap.ok("\n".join(answer.split("\n")[:-1]) in shown and "[=" not in shown, "the bar is gone from the answer", shown)
t = Terminal("chat", "-m", model, "-n", "8", "--video", clip, "-p", "x", "--progress", "never")
t.wait()
tap.ok("vision " not in t.shown().split("\n")[0] and "\x1b[K" not in t.text, "--progress never: no bar", t.text)
t = Terminal("chat", "-m", model, "-n", "8", "--video", clip, "-p", "x", env={"TERM": "dumb"})
t.wait()
tap.ok("\x1b" not in t.text, "TERM=dumb: no escape sequences", t.text)
for env, colour in (({}, True), ({"NO_COLOR": "1"}, False)):
    t = Terminal("chat", "-m", path("absent"), "-p", "x", env=env)
    code = t.wait()
    tap.ok(code == 3 and ("\x1b[31m" in t.text) == colour, "errors %s colour" % ("in" if colour else "without"), t.text)

t = Terminal("chat", "-m", model, "--ignore-eos", "-n", "20000")
good = t.until(r"> \x1b\[J$")
t.type("first question\n")
good = good and t.until(r"\x1b\[K[^\r\x1b]{20}")
t.type("\x03")
good = good and t.until(r"stopped.*\n.*> \x1b\[J$")
tap.ok(good, "Ctrl-C on a terminal stops the answer and asks again", t.text[-500:])
t.type("\x04")
tap.ok(t.wait() == 0, "Ctrl-D ends the conversation", t.text[-200:])
t = Terminal("chat", "-m", model, "--ignore-eos", "-n", "20000")
t.until(r"> \x1b\[J$")
t.type("question\n")
t.until(r"\x1b\[K[^\r\x1b]{20}")
os.kill(t.pid, signal.SIGTERM)
tap.ok(t.wait() == 143, "SIGTERM on a terminal ends the conversation", t.text[-200:])
t = Terminal("chat", "-m", model)
t.until(r"> \x1b\[J$")
t.type("\x03")
tap.ok(t.wait() == 130, "Ctrl-C at the prompt ends it with 130", t.text)

t = Terminal("chat", "-m", model, "--json", "--ignore-eos", "-n", "30000", "-p", "x")
tap.ok(t.until(r"generate +[\d.k]+/[\d.k]+ \[=*>? *\] +\d+% [\d.k]+/s ETA \d+:\d\d\x1b\[K"), "the bar tells rate and remaining time",
       t.text[-300:])
t.type("\x03")
tap.ok(t.wait() == 130 and "[=" not in t.shown(), "a stopped bar is taken away", t.shown())
with start("chat", "-m", model, "--json", "--ignore-eos", "-n", "30000", "-p", "x", "--progress", "always") as p:
    lines = []
    while not (lines and "ETA" in lines[-1]) and len(lines) < 100:
        lines.append(p.stderr.readline().decode())
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=60)
    tap.ok(re.match(r"generate +[\d.k]+/[\d.k]+ +\d+% [\d.k]+/s ETA \d+:\d\d\n", lines[-1]), "so do lines", lines)

# ---- progress elsewhere
r = run("chat", "-m", model, "-n", "3", "--video", clip, "-p", "x", "--progress", "always")
tap.ok(re.search(r"^vision +\d+/(\d+) .*%", r.err, re.MULTILINE) and "\x1b" not in r.err and "\r" not in r.err,
       "--progress always into a file: plain lines", r)
r = run("chat", "-m", model, "-n", "3", "--video", os.path.join(program.ROOT, "examples", "videos", "demo.mp4"), "-p", "x",
        "--progress", "always")  # its decoder hands frames out behind the last packet
reports = re.findall(r"^(\w+ +\d+/\d+) ", r.err, re.MULTILINE)
tap.ok(len(set(reports)) == len(reports) > 4, "... and none twice", reports)
r = run("chat", "-m", model, "-n", "3", "--video", clip, "-p", "x", "--progress", "always", "--log-json", "-v")
events = [json.loads(line) for line in r.lines]
stages = {e["stage"] for e in events if e.get("event") == "progress"}
tap.ok({"vision", "prefill", "generate"} <= stages and all("time" in e and "level" in e for e in events),
       "--log-json: every line is an object, stages by name", r)
tap.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat quantize`, and .gguf files as models: what is written and printed, what is refused, and that a run killed at
any moment leaves no file under its name and does not stand in the next one's way."""
import json
import os
import random
import signal
import struct
import subprocess
import time

import program
from program import IVCHAT, ROOT, Tap, path, run

tap = Tap()
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
DST = path("gguf")


def names():
    return sorted(os.listdir(DST)) if os.path.isdir(DST) else []


r = run("quantize", MODEL, DST, "--type", "Q8_0", "--json")
told = json.loads(r.out) if r.code == 0 else {}
tap.ok(r.code == 0 and names() == ["mmproj-tiny-model-Q8_0.gguf", "tiny-model-Q8_0.gguf"], "two files", r)
tap.ok(told.get("type") == "Q8_0" and all(os.path.getsize(told[k]["path"]) == told[k]["bytes"] for k in ("language", "vision")),
       "--json tells paths and bytes", r)
if not os.path.exists("/dev/nvidiactl"):
    ask = ["chat", "-m", told["language"]["path"], "-p", "What?", "-n", "4", "-v"]
    plain, auto = run(*ask, "--device", "cpu"), run(*ask, "--device", "auto", "--gpu-weights", "q4_0")
    tap.ok(plain.code == 0 and (auto.code, auto.out) == (0, plain.out) and " on cpu " in auto.err,
           "--gpu-weights is nothing to the processor, of a quantised model too", auto)
r = run("quantize", MODEL, DST)
tap.ok(r.code == 0 and r.out.splitlines() == [os.path.join(DST, n) for n in ("tiny-model-Q4_K_M.gguf", "mmproj-tiny-model-Q4_K_M.gguf")]
       and "became" in r.err, "the default type is Q4_K_M; paths on standard output", r)
r = run("quantize", MODEL, DST, "--type", "F32", "--vision-type", "Q4_0", "--progress", "always")
tap.ok(r.code == 0 and "quantize" in r.err and "100%" in r.err, "progress", r)
pair = os.path.join(DST, "tiny-model-F32.gguf")
VISION = os.path.join(DST, "mmproj-tiny-model-F32.gguf")
r = run("info", "-m", pair)
tap.ok(r.code == 0 and "tensors" in r.out, "info of a pair", r)
a = run("chat", "-m", MODEL, "-p", "What?", "-n", "8", "--dtype", "f32")
b = run("chat", "-m", pair, "-p", "What?", "-n", "8", "--dtype", "f32")
tap.ok(a.code == 0 and (a.code, a.out) == (b.code, b.out), "an F32 pair answers as its source", (a.out, b.out, b.err))
r = run("info", "-m", pair, "--verify")
tap.ok(r.code == 0, "info --verify reads blocks too", r)

for args, code, text in (
        (["quantize"], 2, "no model given"),
        (["quantize", MODEL], 2, "no folder to write to"),
        (["quantize", MODEL, DST, "x"], 2, "unexpected argument"),
        (["quantize", MODEL, DST, "--type", "Q3_K"], 2, "Q3_K"),
        (["quantize", MODEL, DST, "--tensor-type", "x=Q9"], 2, "Q9"),
        (["quantize", path("absent"), DST], 3, "absent"),
        (["quantize", pair, DST], 3, "a file; quantize reads the folder"),
        (["quantize", MODEL, "/dev/null/x"], 1, "/dev/null/x"),
        (["chat", "-m", pair, "--mmproj", pair, "-p", "x"], 3, "no vision file"),
        (["chat", "-m", MODEL, "--mmproj", pair, "-p", "x"], 2, "mmproj")):
    r = run(*args)
    tap.ok(r.code == code and text in r.err and r.out == "", "refused: " + " ".join(args[:1] + args[-1:]), r)

# ---- a file that llama.cpp's quantiser wrote
THEIRS = [118, 101, 138, 133, 84, 321, 428, 406, 114, 187, 448, 496]
made = os.path.join(ROOT, "tests", "fixtures", "llama_cpp", "tiny-model-Q4_1.gguf")
r = run("chat", "-m", made, "-p", "What happens?", "-n", "12", "--dtype", "f32", "--ignore-eos", "--json", "-q")
tap.ok(r.code == 0 and json.loads(r.out)["token_ids"] == THEIRS, "a file of llama.cpp's quantiser answers as llama.cpp does", r)

# ---- ORG/REPO:TYPE, of the hub's cache
hub = path("hub")
snapshot = os.path.join(hub, "models--org--repo", "snapshots", "0" * 40)
os.makedirs(snapshot)
os.makedirs(os.path.join(hub, "models--org--repo", "refs"))
with open(os.path.join(hub, "models--org--repo", "refs", "main"), "w", encoding="utf-8") as f:
    f.write("0" * 40)
for name in ("tiny-model-F32.gguf", "mmproj-tiny-model-F32.gguf", "tiny-model-Q8_0.gguf", "mmproj-tiny-model-Q8_0.gguf"):
    os.symlink(os.path.join(DST, name), os.path.join(snapshot, name))
HUB = {"HF_HUB_CACHE": hub, "HF_HUB_OFFLINE": "1"}
for spelling in ("org/repo:F32", "org/repo:f32", "org/repo@main:F32"):
    r = run("chat", "-m", spelling, "-p", "What?", "-n", "8", "--dtype", "f32", env=HUB)
    tap.ok(r.code == 0 and r.out == a.out, "-m " + spelling, r)
os.symlink(os.path.join(DST, "tiny-model-F32.gguf"), os.path.join(snapshot, "twin-Q8_0.gguf"))
for spelling, code, text in (("org/repo:Q4_0", 3, "ivchat pull org/repo --include '*-Q4_0.gguf'"), ("org/repo:Q8_0", 3, "both"),
                             ("org/repo:", 2, "expected ORG/REPO[@REVISION]:TYPE"), ("org/other:F32", 3, "`ivchat pull org/other` downloads it"),
                             ("org/repo:0", 3, "no *-0.gguf")):
    r = run("chat", "-m", spelling, "-p", "What?", env=HUB)
    tap.ok(r.code == code and text in r.err, "-m %s: %s" % (spelling, text), r)

# ---- damaged files
whole = open(pair, "rb").read()


def damaged(name, data, text, code=3):
    file = os.path.join(DST, name + ".gguf")
    with open(file, "wb") as f:
        f.write(data)
    answer = run("chat", "-m", file, "--mmproj", VISION, "-p", "x")
    tap.ok(answer.code == code and text in answer.err and answer.out == "", "damaged: " + name, answer)
    os.remove(file)


damaged("empty", b"", "no GGUF file")
damaged("html", b"<html>not found</html>", "no GGUF file")
damaged("cut", whole[:-5000], "truncated")
damaged("version", whole[:4] + struct.pack("<I", 9) + whole[8:], "version 9")
damaged("other", whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0gemma", 1), 'general.architecture is "gemma"')
damaged("heads", whole.replace(b"llama.attention.head_count\x04", b"llama.attention.head_counx\x04", 1), "head_count")
damaged("lost", whole.replace(b"blk.0.ffn_up.weight", b"blk.0.ffn_ux.weight", 1), "missing")

# ---- killed at random moments
random.seed(5)
target = os.path.join(DST, "tiny-model-Q6_K.gguf")
vision = os.path.join(DST, "mmproj-tiny-model-Q6_K.gguf")
sound = True
for _ in range(50):
    p = subprocess.Popen([IVCHAT, "quantize", MODEL, DST, "--type", "Q6_K", "--quiet"], stdout=subprocess.DEVNULL)
    time.sleep(random.uniform(0, 0.08))
    p.send_signal(signal.SIGKILL)
    p.wait()
    for file in (target, vision):
        if os.path.exists(file):  # then whole
            given = (target, VISION) if file == target else (pair, vision)
            sound = sound and run("info", "-m", given[0], "--mmproj", given[1]).code == 0
            os.remove(file)
tap.ok(sound, "a killed run leaves whole files or none")
r = run("quantize", MODEL, DST, "--type", "Q6_K")
tap.ok(r.code == 0 and not [n for n in names() if n.endswith(".part")] and run("info", "-m", target).code == 0,
       "the next run is not disturbed", r)

# ---- stopped by a signal
os.remove(target)
p = subprocess.Popen([IVCHAT, "quantize", MODEL, DST, "--type", "Q6_K", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
time.sleep(0.01)
p.send_signal(signal.SIGTERM)
p.communicate()
whole = not os.path.exists(target) or run("info", "-m", target).code == 0  # it may have come when only the vision file was left
tap.ok(p.returncode in (0, 143, -signal.SIGTERM) and whole and (os.path.exists(target) or p.returncode != 0) and
       not [n for n in names() if n.endswith(".part")], "SIGTERM: exit code 143 (or none, before it listens), a whole file or none",
       p.returncode)
tap.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `ivchat chat` keeps and cuts: --save and --load, --cache-dir, --segments, --each-segment."""
import json
import os
import resource
import subprocess

import program
from program import SCRATCH, Tap, make_image, make_video, run

tap = Tap()
model = os.path.join(program.ROOT, "tests", "fixtures", "tiny-model")
clip, picture = make_video(), make_image()  # 20 frames, 10 a second
BASE = ["chat", "-m", model, "-n", "6", "-q", "--json"]
VIDEO = [*BASE, "--video", clip, "--num-frames", "2"]
FILE = os.path.join(SCRATCH.name, "talk.ivchat")
CACHE = os.path.join(SCRATCH.name, "rows")
HOT = ["--temp", "1.3", "--seed", "7"]
ASK = [["-p", "What happens?"], ["-p", "Who is in it?"], ["-p", "\u306a\u305c?"]]


def turns(result):
    return [json.loads(line) for line in result.out.splitlines()]


def ids(result):
    return [t["token_ids"] for t in turns(result)]


# ---- a conversation in two runs is the one in a single run
whole = run(*VIDEO, *HOT, *ASK[0], *ASK[1], *ASK[2])
r = run(*VIDEO, *HOT, *ASK[0], *ASK[1], "--save", FILE)
tap.ok(whole.code == 0 and r.code == 0 and ids(r) == ids(whole)[:2] and os.path.isfile(FILE), "--save", r)
r = run(*BASE, "--load", FILE, *ASK[2], "--save", FILE)
last = turns(r)[0] if r.code == 0 else {}
tap.ok(r.code == 0 and ids(r) == ids(whole)[2:], "--load goes on with the same tokens, seed and temperature kept", r)
tap.ok(last.get("cached_tokens") == turns(whole)[2]["cached_tokens"] and last["timings"]["vision_ms"] == 0 and
       last["timings"]["decode_video_ms"] == 0, "--load brings features and KV", last)
tap.ok(last.get("video") == turns(whole)[2]["video"], "--load knows the video", last)
r = run(*BASE, "--load", FILE, "--temp", "0", "-p", "x")
tap.ok(r.code == 0, "a file saved over itself can be loaded, options given win", r)
r = run(*BASE, "--load", FILE, "--msg", "x", "-p", "x")
tap.ok(r.code == 0, "--msg with --load is only a warning", r)
r = run("chat", "-m", model, "--load", FILE, "--msg", "x", "-p", "x", "-n", "2")
tap.ok("--msg has no effect with --load" in r.err and r.err.count("--msg") == 1, "... that is told, once", r)
r = run("chat", "-m", model, "--load", FILE, "--num-frames", "4", "--padding", "-p", "x", "-n", "2")
tap.ok("--num-frames has no effect with --load" in r.err and "--padding has no effect with --load" in r.err and "without" not in r.err,
       "... and that --video would not help", r)

# ---- what is refused
r = run(*VIDEO, "--load", FILE, *ASK[0])
tap.ok(r.code == 2 and "--load" in r.err, "--load with --video", r)
with open(FILE, "r+b") as f:
    f.seek(-1, os.SEEK_END)
    byte = f.read(1)[0]
    f.seek(-1, os.SEEK_END)
    f.write(bytes([byte ^ 1]))
r = run(*BASE, "--load", FILE, *ASK[0])
tap.ok(r.code == 1 and "damaged" in r.err and FILE in r.err and r.err.count("\n") == 1, "--load of a damaged file", r)
r = run(*BASE, "--load", clip, *ASK[0])
tap.ok(r.code == 1 and "is not a saved conversation" in r.err, "--load of something else", r)
r = run(*BASE, "--load", FILE + ".none", *ASK[0])
tap.ok(r.code == 1 and "No such file" in r.err, "--load of nothing", r)
r = run(*VIDEO, *ASK[0], "--save", "/nowhere at all/x")
tap.ok(r.code == 1 and "/nowhere at all/x" in r.err, "--save where nothing can be written, before any work", r)
r = run(*VIDEO, *ASK[0], "--save", "/dev/null")
tap.ok(r.code == 1 and "/dev/null: is not a regular file" in r.err and r.out == "", "--save to a device, before any work", r)

# ---- features on disk
r1 = run(*VIDEO, *ASK[0], "--cache-dir", CACHE)
r2 = run(*VIDEO, *ASK[0], "--cache-dir", CACHE)
tap.ok(r1.code == 0 and r2.code == 0 and ids(r1) == ids(r2) and turns(r1)[0]["timings"]["vision_ms"] > 0 and
       turns(r2)[0]["timings"]["vision_ms"] == 0, "--cache-dir: the second run finds the features", r2)
names = os.listdir(CACHE)
tap.ok(len(names) == 1 and names[0].endswith(".ivrows"), "--cache-dir: one file", names)
with open(os.path.join(CACHE, names[0]), "r+b") as f:
    f.truncate(3000)
r = run("chat", "-m", model, "-n", "6", "--json", "--video", clip, "--num-frames", "2", *ASK[0], "--cache-dir", CACHE)
tap.ok(r.code == 0 and ids(r) == ids(r1) and turns(r)[0]["timings"]["vision_ms"] > 0 and "computed anew" in r.err,
       "--cache-dir: a damaged file is told and made again", r)
r = run(*VIDEO, *ASK[0], "--cache-dir", clip)
tap.ok(r.code == 2 and "not a folder" in r.err, "--cache-dir that is a file", r)



def small_files():  # as a full disk: writing past 64 KiB fails
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))


SMALL = os.path.join(SCRATCH.name, "small")
big = [program.IVCHAT, "chat", "-n", "6", "--json", "--video", clip, *ASK[0]]  # rows of the small model: 200 KiB
done = subprocess.run([*big, "--cache-dir", SMALL], capture_output=True, env=program.environment(), check=False,
                      preexec_fn=small_files, timeout=120)
tap.ok(done.returncode == 0 and b"not kept on disk" in done.stderr and not os.listdir(SMALL),
       "--cache-dir on a full disk: the answer comes all the same", done.stderr.decode())
done = subprocess.run([*big, "--save", SMALL + "/talk"], capture_output=True, env=program.environment(), check=False,
                      preexec_fn=small_files, timeout=120)
tap.ok(done.returncode == 1 and b"talk" in done.stderr and not os.listdir(SMALL), "--save on a full disk: told, nothing is left",
       done.stderr.decode())

# ---- segments
r = run(*VIDEO, "--segments", "0.5", "--time-text", *ASK[0])
turn = turns(r)[0] if r.code == 0 else {"video": {}}
tap.ok(r.code == 0 and turn["video"].get("segments") == [0, 0.5, 1, 1.5] and turn["video"]["clips"] == 12 and
       len(turn["video"]["frame_indices"]) == 8 and turn["prompt_tokens"] > 12 * 96, "--segments: all in one prompt", r)
each = run(*VIDEO, "--segments", "0.5", "--each-segment", *ASK[0], *ASK[1])
told = turns(each)
tap.ok(each.code == 0 and [t["turn"] for t in told] == list(range(1, 9)) and
       [t["segment"]["start"] for t in told] == [0, 0, 0.5, 0.5, 1, 1, 1.5, 1.5] and
       told[-1]["segment"]["end"] == 2 and told[-1]["segment"]["index"] == 3, "--each-segment: one after the other", each)
part = run(*VIDEO, "--start", "0.5", "--end", "1", *ASK[0], *ASK[1])
tap.ok(ids(part) == [t["token_ids"] for t in told[2:4]], "... answered like that part of the video", part)
r = run("chat", "-m", model, "-n", "6", "-q", "--video", clip, "--num-frames", "2", "--segments", "0.5",
        "--each-segment", *ASK[0])
tap.ok(r.code == 0 and r.out.startswith("[0.0-0.5 s]\n") and "\n[1.5-2.0 s]\n" in r.out, "... with a line in front", r)
for bad, why in (([*VIDEO, "--each-segment", *ASK[0]], "needs"), ([*VIDEO, "--segments", "1", "--each-segment"], "-p"),
                 ([*VIDEO, "--segments", "0.0001", *ASK[0]], "0.001"),
                 ([*VIDEO, "--segments", "1", "--dump", SCRATCH.name, *ASK[0]], "--dump"),
                 ([*VIDEO, "--segments", "1", "--each-segment", "--save", FILE, *ASK[0]], "--save")):
    r = run(*bad)
    tap.ok(r.code == 2 and why in r.err, "refused: " + " ".join(b for b in bad[9:] if b[0] == "-" and b != "-p"), r)
r = run(*BASE, "--image", picture, "--segments", "1", *ASK[0])
tap.ok(r.code == 0, "--segments with an image has no effect", r)
r = run(*VIDEO, "--segments", "0.05", "--ctx", "1000", *ASK[0])
tap.ok(r.code == 5 and "1000" in r.err, "more segments than the context holds", r)
r = run("info", "-m", model, "--plan", "--json", "-q", "--num-frames", "2", "--segments", "0.5", "--end", "2")
tap.ok(r.code == 0 and json.loads(r.out)["plan"]["clips"] == 12, "info --plan counts segments", r)
r = run("info", "-m", model, "--plan", "--json", "-q", "--num-frames", "2", "--segments", "0.5", "--video", clip)
tap.ok(r.code == 0 and json.loads(r.out)["plan"]["clips"] == 12, "info --plan takes the length from the video", r)
r = run("info", "-m", model, "--plan", "-q", "--segments", "0.5")
tap.ok(r.code == 2 and "--end" in r.err, "info --plan without a length", r)
tap.done()

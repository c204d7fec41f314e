#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat --dump`: a .npy file of every stage, by turn; folders and failures."""
import json
import os

import program
from program import Tap, make_video, path, read_npy, run

tap = Tap()
model = program.TINY

BASE = ["chat", "-m", model, "--dtype", "f32", "-n", "2", "--video", make_video()]
VIDEO, ONE = [*BASE, "--num-frames", "2"], [*BASE, "--num-frames", "1"]
ASK = ["-p", "What happens?", "-p", "Who is in it?"]

dump = path("dump", "deep")
r = run(*VIDEO, *ASK, "-q", "--json", "--dump", dump)
first = json.loads(r.out.split("\n")[0]) if r.code == 0 else {}
names = sorted(f[:-4] for f in os.listdir(dump) if f.endswith(".npy"))
needed = {"frame_indices", "pixels", "vit", "vit_block_0", "qformer", "projected", "input_ids", "logits"}
tap.ok(r.code == 0 and needed <= set(names), "--dump: every stage", "%s\n%s" % (needed - set(names), r))
if needed <= set(names):
    shape, indices = read_npy(os.path.join(dump, "frame_indices.npy"))
    tap.ok(shape == [2] and list(indices) == [4, 14], "frame_indices", (shape, indices))
    tap.ok(read_npy(os.path.join(dump, "pixels.npy"))[0] == [1, 3, 2, 3, 224, 224], "pixels [1,3,2,3,224,224]")
    vit = read_npy(os.path.join(dump, "vit.npy"))[0]
    tap.ok(vit[:2] == [3, 513], "vit [3,1+256*2,width]", vit)
    tap.ok(read_npy(os.path.join(dump, "qformer.npy"))[0][:2] == [3, 96], "qformer [3,96,width]")
    tap.ok(read_npy(os.path.join(dump, "projected.npy"))[0][0] == 288, "projected [288,width]")
    shape, ids = read_npy(os.path.join(dump, "input_ids.npy"))
    tap.ok(shape == [first["prompt_tokens"]] and ids[0] == 1, "input_ids as long as the prompt", shape)
    shape, logits = read_npy(os.path.join(dump, "logits.npy"))
    tap.ok(max(range(len(logits)), key=lambda i: logits[i]) == first["token_ids"][0],
           "the best of logits is the first token", first["token_ids"])
later = sorted(os.listdir(os.path.join(dump, "turn2")))
tap.ok(later == ["input_ids.npy", "logits.npy"], "turn2 has what it computed", later)
tap.ok(not [f for f in os.listdir(dump) if "tmp" in f], "no temporary files are left")
with open(path("plain"), "w", encoding="utf-8") as f:
    f.write("x")
r = run(*ONE, *ASK, "-q", "--dump", path("plain"))
tap.ok(r.code == 1 and "plain" in r.err and len(r.lines) == 1, "--dump onto a file", r)
os.makedirs(path("blocked", "logits.npy"))
r = run(*ONE, *ASK, "-q", "--dump", path("blocked"))
tap.ok(r.code == 1 and "logits.npy: is a directory" in r.err, "--dump: a failed write ends the work with its cause", r)
tap.done()

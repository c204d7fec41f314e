#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat embed`: shapes and values of every stage, both formats, files that appear whole or not at all."""
import array
import json
import os
import resource
import stat
import struct
import subprocess

import program
from program import IVCHAT, Tap, environment, make_image, make_video, path, read_npy, run

tap = Tap()
model = program.TINY

clip = make_video()
BASE = ["embed", "-m", model, "--dtype", "f32", "--video", clip, "--num-frames", "1", "-q"]


def read_safetensors(name):
    with open(name, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return size, header, data[8 + size:]


# ---- stages
shapes = {}
values = {}
for stage in ("pixels", "vit", "qformer", "projected"):
    out = path(stage + ".npy")
    r = run(*BASE, "--stage", stage, "-o", out)
    if tap.ok(r.code == 0 and r.out == "" and r.err == "" and os.path.isfile(out), "--stage " + stage, r):
        shapes[stage], values[stage] = read_npy(out)
width = shapes["vit"][2]
tap.ok(shapes["pixels"] == [1, 3, 1, 3, 224, 224], "pixels [1,3,1,3,224,224]", shapes)
tap.ok(shapes["vit"][:2] == [3, 257] and shapes["qformer"][:2] == [3, 96] and shapes["projected"][0] == 288,
       "vit [3,257,w], qformer [3,96,w], projected [288,w]", shapes)
# after its layer norm a row of vit has a variance near that of the norm's weights, never 0
row = values["vit"][:width]
mean = sum(row) / width
tap.ok(0.01 < sum((x - mean) ** 2 for x in row) / width < 100, "vit rows are normalised", row[:8])
r = run(*BASE, "-o", path("default.npy"))
tap.ok(r.code == 0 and read_npy(path("default.npy"))[1] == values["projected"], "the default stage is projected", r)
r = run(*BASE, "-o", path("told.npy"), "--instruction", "Look at the square.")
tap.ok(r.code == 0 and read_npy(path("told.npy"))[1] != values["projected"], "--instruction changes the features", r)
r = run("embed", "-m", model, "--image", make_image(), "--stage", "pixels", "-o", path("image.npy"), "-q")
tap.ok(r.code == 0 and read_npy(path("image.npy"))[0][-4:] == [1, 3, 224, 224], "an image", r)

# ---- safetensors, JSON
out = path("features.safetensors")
r = run(*BASE, "--stage", "qformer", "-o", out, "--json", "--instruction", "")
size, header, data = read_safetensors(out)
told = json.loads(r.out)
tap.ok(size % 8 == 0 and header["qformer"] == {"dtype": "F32", "shape": shapes["qformer"],
                                               "data_offsets": [0, len(data)]}, "safetensors header", header)
got = array.array("f")
got.frombytes(data)
tap.ok(got == values["qformer"], "safetensors holds the values of the .npy")
meta = header["__metadata__"]
tap.ok(all(isinstance(v, str) for v in meta.values()) and meta["stage"] == "qformer" and
       meta["sha256"] == told["video"]["sha256"] and meta["frame_indices"] == "9", "safetensors metadata", meta)
tap.ok(told["output"] == out and told["stage"] == "qformer" and told["shape"] == shapes["qformer"] and
       told["video"]["frame_indices"] == [9], "--json tells what was written", told)

# ---- files
with open(path("old.npy"), "wb") as f:
    f.write(b"old")
os.symlink(path("old.npy"), path("link.npy"))
r = run(*BASE, "--stage", "pixels", "-o", path("link.npy"))
tap.ok(r.code == 0 and os.path.islink(path("link.npy")) and read_npy(path("old.npy"))[1] == values["pixels"],
       "a link is followed and stays", r)
r = run(*BASE, "--stage", "pixels", "-o", path("no", "such", "folder.npy"))
tap.ok(r.code == 1 and "folder.npy" in r.err and "No such file" in r.err, "a folder that is not there", r)
os.mkdir(path("is.npy"))
for out in (path("no", "such", "folder.npy"), path("is.npy"), path("x" * 300 + ".npy")):
    r = run("embed", "-m", path("absent"), "--video", "a", "-o", out)
    tap.ok(r.code == 1 and out[-20:] in r.err and "absent" not in r.err, "a bad output is told before the model is read", r)
r = run("embed", "-m", path("absent"), "--video", "a", "-o", path("fine.npy"))
tap.ok(r.code == 3 and not [f for f in os.listdir(path()) if f.startswith("fine")], "the check leaves nothing", r)
r = run(*BASE[:-1], "--variant", "8b", "--instruction", "x", "--stage", "qformer", "-o", path("plain.npy"))
tap.ok(r.code == 0 and "warning: --instruction has no effect with variant 8b" in r.err, "8b: no instruction", r)
os.mkdir(path("folder.npy"))
r = run(*BASE, "--stage", "pixels", "-o", path("folder.npy"))
tap.ok(r.code == 1 and "is a directory" in r.err, "a folder as output", r)

with open(path("kept.npy"), "wb") as f:
    f.write(b"kept")


def small_files():  # as a full disk: writing past 64 KiB fails, with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))


done = subprocess.run([IVCHAT, *BASE, "--stage", "pixels", "-o", path("kept.npy")], capture_output=True,
                      env=environment(), preexec_fn=small_files, check=False, timeout=120)
with open(path("kept.npy"), "rb") as f:
    kept = f.read()
tap.ok(done.returncode == 1 and b"kept.npy" in done.stderr and kept == b"kept", "a failed write keeps the old file",
       done.stderr.decode())
tap.ok(not [f for f in os.listdir(program.SCRATCH.name) if f.endswith(".tmp")], "no temporary files are left")
os.mkfifo(path("pipe.npy"))
with open(path("piped"), "wb") as f, subprocess.Popen(["cat", path("pipe.npy")], stdout=f) as reader:
    r = run(*BASE, "--stage", "pixels", "-o", path("pipe.npy"))
    if r.code != 0 or not stat.S_ISFIFO(os.stat(path("pipe.npy")).st_mode):
        reader.kill()  # it may still wait for a writer
tap.ok(r.code == 0 and read_npy(path("piped"))[1] == values["pixels"], "a pipe is written to and stays a pipe", r)
tap.done()

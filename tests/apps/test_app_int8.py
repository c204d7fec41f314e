#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""--dtype int8: how near its features and logits are to those of f32, on the model that ships and the golden ones."""
import os

import program
from program import ROOT, SHARED, Tap, path, read_npy, run

LEAST = {"vit": 0.9995, "logits": 0.999}  # measured with these frames: see each line of the output
VIDEO = os.path.join(ROOT, "examples", "videos", "demo.mp4")

tap = Tap()


def cosine(a, b):
    ab = sum(x * y for x, y in zip(a, b))
    return ab / (sum(x * x for x in a) * sum(x * x for x in b)) ** 0.5


def dumped(model, dtype):
    """Stage by stage, or the failed run."""
    folder = path("%s-%s" % (os.path.basename(model), dtype))
    r = run("chat", "-m", model, "--dtype", dtype, "--device", "cpu", "--video", VIDEO, "--num-frames", "2", "-n", "1", "-p",
            "What happens in the video?", "-q", "--dump", folder)
    return r if r.code else {stage: read_npy(os.path.join(folder, stage + ".npy"))[1] for stage in LEAST}


def check(model):
    name = os.path.basename(model)
    exact, levels = dumped(model, "f32"), dumped(model, "int8")
    if not tap.ok(isinstance(exact, dict) and isinstance(levels, dict), name + " answers", "%s%s" % (exact, levels)):
        return
    for stage, least in LEAST.items():
        near = cosine(exact[stage], levels[stage])
        tap.ok(near >= least, "%s %s: cosine %.6f, at least %g" % (name, stage, near, least))
    tap.ok(list(exact["vit"]) != list(levels["vit"]), name + ": int8 is not f32")


for name, folder in (("ivchat-small", os.path.join(ROOT, "models")), ("tiny-hd", os.path.join(SHARED, "golden")),
                     ("tiny-internlm", os.path.join(SHARED, "golden"))):
    if os.path.exists(os.path.join(folder, name, "config.json")):
        check(os.path.join(folder, name))
    else:
        tap.skip(name, program.NO_MODEL if folder.endswith("golden") else "this commit has no models/" + name)
tap.done()

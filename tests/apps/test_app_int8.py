#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""--dtype int8: how near its features and logits are to those of f32, on the model that ships and the golden ones."""
import os

import program
from program import ROOT, SHARED, Tap, path, read_npy, run

LEAST = {"vit": 0.9995, "logits": 0.999}  # measured with these frames: see each line of the output
GOLDEN = os.path.join(SHARED, "data", "upstream", "yoga.mp4")  # the video of the golden cases
DEMO = os.path.join(ROOT, "examples", "videos", "demo.mp4")

tap = Tap()


def cosine(a, b):
    ab = sum(x * y for x, y in zip(a, b))
    return ab / (sum(x * x for x in a) * sum(x * x for x in b)) ** 0.5


def dumped(model, video, dtype):
    """Stage by stage, or the failed run."""
    folder = path("%s-%s" % (os.path.basename(model), dtype))
    r = run("chat", "-m", model, "--dtype", dtype, "--device", "cpu", "--video", video, "-n", "1", "-p",
            "Describe the action step by step.", "-q", "--dump", folder)
    return r if r.code else {stage: read_npy(os.path.join(folder, stage + ".npy"))[1] for stage in LEAST}


def check(model, video):
    name = os.path.basename(model)
    exact, levels = dumped(model, video, "f32"), dumped(model, video, "int8")
    if not tap.ok(isinstance(exact, dict) and isinstance(levels, dict), name + " answers", "%s%s" % (exact, levels)):
        return
    for stage, least in LEAST.items():
        near = cosine(exact[stage], levels[stage])
        tap.ok(near >= least, "%s %s: cosine %.6f, at least %g" % (name, stage, near, least))
    tap.ok(list(exact["vit"]) != list(levels["vit"]), name + ": int8 is not f32")


for name, folder, video in (("ivchat-small", os.path.join(ROOT, "models"), DEMO),
                            ("tiny-hd", os.path.join(SHARED, "golden"), GOLDEN),
                            ("tiny-internlm", os.path.join(SHARED, "golden"), GOLDEN)):
    if os.path.exists(os.path.join(folder, name, "config.json")) and os.path.exists(video):
        check(os.path.join(folder, name), video)
    else:
        tap.skip(name, program.NO_MODEL if folder.endswith("golden") else "this commit has no models/" + name)
tap.done()

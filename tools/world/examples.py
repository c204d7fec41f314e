# SPDX-License-Identifier: MIT
"""Five short example videos of the procedural world, under 1 MB together, with a README of questions.

Scenes come from seeds that no data set of make_videos.py reaches, the first one that looks as wanted.
"""
import json
import os

import numpy as np

from .make_videos import write_video
from .questions import make_question
from .scene import sample_scene

FIRST_SEED = 1000000


def three_events(s):
    acts = {e.action for e, _ in s.events()}
    return (s.kind == "sequence" and s.width >= 384 and distinct(s) and len(s.objects) == 3 == len(acts) and
            len({i for _, i in s.events()}) == 3 and bool(acts & {"left", "right"}) and s.n_frames > 60)


def distinct(s):
    return len({o.colour for o in s.objects}) == len({o.shape for o in s.objects}) == len(s.objects)


def lively(s):
    return s.kind == "whole" and len({a for o in s.objects for a in o.actions}) == len(s.objects) >= 2


# file, encoder, its options, what the scene must be like, what the README says of it
WANTED = (
    ("demo.mp4", "h264", {"crf": "18", "preset": "slow"}, three_events,
     "three objects, three events one after another"),
    ("clip-vp9.webm", "vp9", {"crf": "30", "b": "0", "deadline": "good"},
     lambda s: lively(s) and s.width == 320 and len(s.objects) == 3 and distinct(s), "VP9, everything at once"),
    ("portrait.mp4", "h264", {"crf": "20", "preset": "slow"},
     lambda s: s.height > s.width and s.kind == "sequence" and len(s.objects) == 2 and distinct(s), "upright format"),
    ("odd-size.mp4", "h264", {"crf": "20", "preset": "slow"}, lambda s: lively(s) and s.width == 317,
     "317 x 181 pixels, full chroma"),
    ("pan.mp4", "h264", {"crf": "24", "preset": "slow"},
     lambda s: s.kind == "camera" and len(s.objects) == 3 and s.width > 300 and s.camera in ("left", "right"),
     "the camera pans, the objects stay where they are"),
)
ASKED = {"sequence": ("describe", "order", "steps", "choice", "dialogue"),
         "camera": ("camera", "describe", "count", "dialogue"),
         "whole": ("describe", "direction", "choice", "dialogue")}


def find(test):
    seed = FIRST_SEED
    while True:
        scene = sample_scene(seed, "test")
        if not scene.heldout and test(scene):
            return scene
        seed += 1


def told(turn):
    return "- %s\n  *%s*\n" % (turn["q"].replace("\n", "\n  "), turn["a"])


def write_examples(folder):
    """Writes the videos, README.md and questions.jsonl into folder."""
    os.makedirs(folder, exist_ok=True)
    text = ["# Example videos\n",
            "Made by `tools/world/make_videos.py --examples`: scenes that no training has seen, with questions\n"
            "and the answers that are right. Licence: MIT, like the program.\n"]
    rows = []
    for name, kind, settings, test, what in WANTED:
        scene = find(test)
        path = os.path.join(folder, name)
        write_video(scene, path, kind, settings)
        text.append("## %s\n\n%d x %d, %d frames at %d a second, %d KB: %s.\n" % (
            name, scene.width, scene.height, scene.n_frames, scene.fps, os.path.getsize(path) // 1000 + 1, what))
        rng = np.random.default_rng([59, scene.seed])
        for number, type_name in enumerate(ASKED[scene.kind]):
            item = make_question(scene, rng, "train", type_name)
            if item:
                if item["answer_prefix"]:  # a reader asks plainly
                    item["turns"][0]["a"] = "(" + item["turns"][0]["a"]
                item["instruction"] = item["answer_prefix"] = None
                rows.append({"video": name, "id": "%s-%d" % (name.split(".", maxsplit=1)[0], number), **item})
                text.append("".join(told(t) for t in item["turns"]))
    with open(os.path.join(folder, "questions.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(text))

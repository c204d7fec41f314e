# SPDX-License-Identifier: MIT
"""Text of the train split, one line each: questions, answers, options, descriptions, readings.

  python -m world.corpus --n N --out FILE [--seed N]     (with tools/ as the working folder)

For training a vocabulary. Line breaks inside a question become spaces.
"""
import argparse

import numpy as np

from .describe import make_dialogue_text
from .questions import make_image_questions, make_questions
from .scene import sample_scene, sample_times
from .wordings import PROTOCOL


def lines(seed):
    """Endless lines from scene seed on."""
    yield PROTOCOL.strip()
    while True:
        rng = np.random.default_rng([31, seed])
        scene = sample_scene(seed, "train")
        items = make_questions(scene, rng, "train", 6)
        items += make_image_questions(scene, rng, "train", 2, float(choose_time(scene, rng)))
        for item in items:
            begun = item["answer_prefix"] or ""
            for turn in item["turns"]:
                yield turn["q"].replace("\n", " ")
                yield begun + turn["a"]
            if item["instruction"] and item["type"] != "choice":
                yield item["instruction"].strip()
        yield make_dialogue_text(scene, rng)
        seed += 1


def choose_time(scene, rng):
    times = sample_times(scene.n_frames)
    return times[int(rng.integers(len(times)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--n", type=int, required=True, help="lines")
    parser.add_argument("--out", required=True, help="file to write")
    parser.add_argument("--seed", type=int, default=0, help="number of the first scene")
    options = parser.parse_args()
    with open(options.out, "w", encoding="utf-8") as f:
        for _, line in zip(range(options.n), lines(options.seed)):
            f.write(line + "\n")


if __name__ == "__main__":
    main()

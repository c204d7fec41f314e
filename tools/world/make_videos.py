#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes videos of the procedural world and the questions about them.

  tools/world/make_videos.py --split test --count 420 --per-video 5 --out DIR [--first SEED]
  tools/world/make_videos.py --examples DIR

DIR/videos/NAME.{mp4,webm,mkv,avi} (h264, vp9, h264, mpeg4) in each scene's own size and frame rate, and
DIR/questions.jsonl, one question a line:
  {"video", "id", "type", "instruction": null|text, "answer_prefix": null|text, "turns": [{"q", "a", "accept",
   "reject"}], "heldout": [...], "seed"}
A reply is right when of each group of accept one phrase occurs in it as whole words, and no phrase of reject.
Types are balanced: the one with fewest questions so far is asked first where the scene allows it.
Needs PyAV ("av") with libx264 and libvpx-vp9.
"""
import argparse
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from world.questions import MAKERS, make_question  # noqa: E402
from world.render import render  # noqa: E402
from world.scene import SPLITS, sample_scene  # noqa: E402

# name -> extension, encoder, its options
KINDS = {
    "h264": ("mp4", "libx264", {"crf": "20", "preset": "veryfast"}),
    "vp9": ("webm", "libvpx-vp9", {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "7"}),
    "mkv": ("mkv", "libx264", {"crf": "22", "preset": "veryfast", "bf": "2"}),
    "mpeg4": ("avi", "mpeg4", {"qscale": "3"}),
}
STILL_CAMERA = 0.2  # share of the scenes without a moving camera that may be asked about it
CYCLE = ("h264", "vp9", "h264", "mkv", "h264", "mpeg4")


def write_video(scene, path, kind, options=None):
    """Encodes all frames of a scene; h264 keeps odd sizes by full chroma."""
    import av
    _, encoder, defaults = KINDS[kind]
    odd = scene.width % 2 or scene.height % 2
    with av.open(path, "w", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream(encoder, rate=scene.fps)
        stream.width, stream.height = scene.width, scene.height
        stream.pix_fmt = "yuv444p" if odd and encoder == "libx264" else "yuv420p"
        stream.options = dict(options or defaults)
        stream.thread_count = 1
        if encoder == "mpeg4":
            stream.bit_rate = 1200000
        times = np.arange(scene.n_frames) / (scene.n_frames - 1)
        for part in np.array_split(times, max(1, len(times) // 16)):
            for picture in render(scene, part, scene.width, scene.height):
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def ask(scene, split, n, asked):
    """n items about a scene; asked = {type: questions so far}, which this brings up to date."""
    rng = np.random.default_rng([53, SPLITS.index(split), scene.seed])
    made, texts = [], set()
    for _ in range(2):
        kinds = sorted(MAKERS, key=lambda t: asked[t] + 3 * rng.random())
        # a moving camera is rare: else nearly every answer about the camera would be the same
        if scene.camera != "still":
            kinds = ["camera", "camera"] + kinds
        elif rng.random() > STILL_CAMERA:
            kinds.remove("camera")
        for kind in kinds:
            if len(made) == n:
                return made
            item = make_question(scene, rng, split, kind)
            if item and item["turns"][0]["q"] not in texts:
                texts.add(item["turns"][0]["q"])
                asked[kind] += 1
                made.append(item)
    return made


def dumps(item, video, number):
    first = {"video": video, "id": "%s-%d" % (os.path.splitext(os.path.basename(video))[0], number)}
    return json.dumps({**first, **item}, ensure_ascii=True)


def write_split(options):
    os.makedirs(os.path.join(options.out, "videos"), exist_ok=True)
    asked = dict.fromkeys(MAKERS, 0)
    with open(os.path.join(options.out, "questions.jsonl"), "w", encoding="utf-8") as f:
        for n in range(options.count):
            scene = sample_scene(options.first + n, options.split)
            kind = CYCLE[n % len(CYCLE)]
            name = "videos/%s%04d.%s" % (options.split, scene.seed, KINDS[kind][0])
            write_video(scene, os.path.join(options.out, name), kind)
            for number, item in enumerate(ask(scene, options.split, options.per_video, asked)):
                f.write(dumps(item, name, number) + "\n")
    print("%d videos, %d questions: %s" % (options.count, sum(asked.values()),
                                           ", ".join("%s %d" % p for p in sorted(asked.items()))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--count", type=int, default=420, help="videos")
    parser.add_argument("--per-video", type=int, default=5, help="questions for each")
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--out", help="folder to write")
    parser.add_argument("--examples", help="write the five example videos into this folder instead")
    options = parser.parse_args()
    if options.examples:
        from world.examples import write_examples
        write_examples(options.examples)
    elif options.out:
        write_split(options)
    else:
        parser.error("--out or --examples is needed")


if __name__ == "__main__":
    main()

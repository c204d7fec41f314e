#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes videos of the procedural world and the questions about them.

  tools/world/make_videos.py --split test --count 420 --per-video 5 --out DIR [--first SEED]
  tools/world/make_videos.py --split test --count 420 --per-video 5 --out DIR --images
  tools/world/make_videos.py --examples DIR

DIR/videos/NAME.{mp4,webm,mkv,avi} (h264, vp9, h264, mpeg4) in each scene's own size and frame rate, and
DIR/questions.jsonl, one question a line:
  {"video", "id", "type", "instruction": null|text, "answer_prefix": null|text, "turns": [{"q", "a", "accept",
   "reject"}], "heldout": [...], "seed"}
A reply is right when of each group of accept one phrase occurs in it as whole words, and no phrase of reject.
Types are balanced: the one with fewest questions so far is asked first where the scene allows it.
Needs PyAV ("av") with libx264 and libvpx-vp9. --images writes one frame of each scene instead, DIR/images/NAME.png, and asks only
what can be seen in it; that needs no PyAV.
"""
import argparse
import json
import os
import struct
import sys
import zlib

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from world.questions import IMAGE_TYPES, MAKERS, make_question, still_scene  # noqa: E402
from world.render import render  # noqa: E402
from world.scene import SPLITS, sample_scene, sample_times  # noqa: E402

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


def write_png(picture, path):
    """picture: u8 [h,w,3]"""
    h, w, _ = picture.shape
    rows = np.concatenate([np.zeros((h, 1), np.uint8), picture.reshape(h, 3 * w)], axis=1)  # each row begins with its filter, none
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows.tobytes(), 9)),
                           (b"IEND", b"")):
            f.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def ask(scene, split, n, asked):
    """n items about a scene; asked = {type: questions so far}, which this brings up to date."""
    rng = np.random.default_rng([53, SPLITS.index(split), scene.seed])
    made, texts = [], set()
    for _ in range(2):
        kinds = sorted(asked, key=lambda t: asked[t] + 3 * rng.random())
        # a moving camera is rare: else nearly every answer about the camera would be the same
        if scene.camera != "still":
            kinds = ["camera", "camera"] + kinds
        elif "camera" in asked and rng.random() > STILL_CAMERA:
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


def picture_of(scene):
    """(scene of one frame, its time), with something in it and nothing half visible; None when no frame of the eight is such."""
    rng = np.random.default_rng([61, SPLITS.index(scene.split), scene.seed])
    for time in rng.permutation(sample_times(scene.n_frames)):
        still = still_scene(scene, time)
        if still is not None and still.objects:
            return still, time
    return None


def write_split(options):
    """Scenes from the first on, each as a video; or those that have such a frame as a picture."""
    folder = "images" if options.images else "videos"
    os.makedirs(os.path.join(options.out, folder), exist_ok=True)
    asked = dict.fromkeys(IMAGE_TYPES if options.images else MAKERS, 0)
    seed, written = options.first, 0
    with open(os.path.join(options.out, "questions.jsonl"), "w", encoding="utf-8") as f:
        while written < options.count:
            scene = sample_scene(seed, options.split)
            kind = CYCLE[(seed - options.first) % len(CYCLE)]
            seed += 1
            if options.images:
                found = picture_of(scene)
                if found is None:
                    continue
                name = "images/%s%04d.png" % (options.split, scene.seed)
                write_png(render(scene, found[1:], scene.width, scene.height)[0], os.path.join(options.out, name))
                scene = found[0]
            else:
                name = "videos/%s%04d.%s" % (options.split, scene.seed, KINDS[kind][0])
                write_video(scene, os.path.join(options.out, name), kind)
            written += 1
            for number, item in enumerate(ask(scene, options.split, options.per_video, asked)):
                f.write(dumps(item, name, number) + "\n")
    print("%d %s, %d questions: %s" % (written, folder, sum(asked.values()),
                                       ", ".join("%s %d" % p for p in sorted(asked.items()))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--count", type=int, default=420, help="videos")
    parser.add_argument("--per-video", type=int, default=5, help="questions for each")
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--out", help="folder to write")
    parser.add_argument("--images", action="store_true", help="a frame of each scene instead of a video")
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

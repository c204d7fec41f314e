#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/fixtures/media/frames.json: what decord reads from the fixtures, picture by picture.

  tools/make_media_expected.py [DIR]

Needs decord 0.6.0 and numpy (pip). Only files that decord reads right are listed: it loses the first group of
transport streams after its counting pass, cannot open AV1, GIF or streams without timestamps, and copies
rows of some widths wrongly. The others are compared with their twins in tests/unit/test_media_video.c.
"""
import hashlib
import json
import os
import sys

import decord

FILES = """bframes.mp4 start.mp4 fragmented.mp4 bframes.mkv bframes.flv bframes.avi opengop.mkv refresh.mp4 vfr.mkv
sar.mp4 bt709.mp4 fullrange.mp4 h264_444.mp4 h264_422_10.mkv h264_gray.mp4 odd.mp4 odd420.mkv odd_vp9.webm
portrait.mp4 rotate90.mp4 rotate180.mp4 rotate270.mp4 one.mp4 two.mp4 five.mp4 fps1000.mp4 vp9.webm vp9_alpha.webm
vp8.webm hevc.mp4 hevc_open.mkv hevc_10.mkv mpeg4.avi mpeg2.mpg wmv.asf flv1.flv mjpeg.avi prores.mov
ffv1_alpha.mkv raw.y4m cover.mp4""".split()


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures", "media")
    rows = []
    for name in FILES:
        video = decord.VideoReader(os.path.join(folder, name), num_threads=1)
        digest = hashlib.sha256()
        for i in range(len(video)):  # in order: its random access goes wrong in open groups
            frame = video[i].asnumpy()
            digest.update(frame.tobytes())
        rows.append({"file": name, "frames": len(video), "fps": float(video.get_avg_fps()), "width": frame.shape[1],
                     "height": frame.shape[0], "sha256": digest.hexdigest()})
    with open(os.path.join(folder, "frames.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


if __name__ == "__main__":
    main()

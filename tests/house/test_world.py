# SPDX-License-Identifier: MIT
"""The procedural world of tools/world: same seed, same scene; what is held out stays out of training; what is asked
has one answer, and the pictures show it. The checks look at the objects themselves where they can, not at the
functions that made the questions."""
import collections
import math
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests"), os.path.join(ROOT, "tools")]
import tap  # noqa: E402

try:
    import numpy as np
except ImportError:
    np = None
else:
    from world import describe, language, make_videos, questions, render, scene, wordings

STATED = ("colour", "shape", "count", "direction", "size", "texture", "position", "camera", "order", "change",
          "exist")
DIGEST = """
import hashlib, numpy as np
from world import questions, scene
text = []
for split in scene.SPLITS:
    for seed in range(12):
        s = scene.sample_scene(seed, split)
        text += [repr(s), repr(questions.make_questions(s, np.random.default_rng(seed), split, 6))]
print(hashlib.sha256("".join(text).encode()).hexdigest())
"""


def digest(hash_seed):
    env = {**os.environ, "PYTHONPATH": os.path.join(ROOT, "tools"), "PYTHONHASHSEED": hash_seed}
    return subprocess.run([sys.executable, "-c", DIGEST], stdout=subprocess.PIPE, check=True, env=env).stdout


def words(texts):
    return set(re.findall(r"[a-z]+", " ".join(texts).lower()))


def check_held_out(report, train, test, items):
    """items: (scene, item) of both splits."""
    seen = {(o.colour, o.shape) for s in train for o in s.objects}
    acts = {(o.shape, a) for s in train for o in s.objects for a in o.actions}
    report.ok(len(scene.HELD_PAIRS) == 8 and not seen & scene.HELD_PAIRS, "no held-out colour and shape in training",
              seen & scene.HELD_PAIRS)
    report.ok(len(scene.HELD_ACTIONS) >= 10 and not acts & scene.HELD_ACTIONS,
              "no held-out shape and action in training", acts & scene.HELD_ACTIONS)
    report.ok(len(seen) == 48 and len(acts) == 7 * 16 - len(scene.HELD_ACTIONS), "and all the others are in it",
              (len(seen), len(acts)))
    report.ok({a for _, a in acts} == set(scene.ACTIONS), "every action is trained with some shape")
    share = sum(bool(s.heldout) for s in test) / len(test)
    report.ok(0.25 < share < 0.45 and not any(s.heldout for s in train),
              "a third of the test scenes has something new", share)
    names = ["%s %s" % p for p in scene.HELD_PAIRS]
    bad = [t["q"] + t["a"] for s, i in items if s.split == "train" for t in i["turns"] for n in names
           if language.occurs(n, t["q"] + " " + t["a"])]
    report.ok(not bad, "training text does not name them either", bad[:3])
    report.ok(not any(i["heldout"] for s, i in items if s.split == "train"), "no held-out wording in training")
    report.ok(sum("wording" in i["heldout"] for s, i in items if s.split == "test") > 50, "but in the test")


def check_wordings(report, items):
    every = [w for key in wordings.EXPANDED for w in wordings.wordings(key)]
    held = sum(len(h) for h in wordings.HELD.values())
    report.ok(len(set(every)) >= 320 and len(every) == len(wordings.wordings()), "320 wordings", len(set(every)))
    report.ok(0.10 < held / len(every) < 0.15 and all(wordings.HELD.values()), "an eighth held out, of each list",
              held)
    known = set().union(*(wordings.words(w) for ws in wordings.TRAIN.values() for w in ws))
    new = set().union(*(wordings.words(w) for ws in wordings.HELD.values() for w in ws)) - known
    report.ok(not new, "the held-out ones have no words of their own", new)
    train = words(t["q"] + " " + t["a"] for s, i in items if s.split == "train" for t in i["turns"])
    report.ok(len(train) >= 500, "500 words", len(train))


def check_scores(report, items):
    turns = [t for _, i in items for t in i["turns"]]
    bad = [t for t in turns if not all(any(language.occurs(p, t["a"]) for p in g) for g in t["accept"])]
    report.ok(not bad, "each answer holds what is accepted", bad[:2])
    bad = [t for t in turns if any(language.occurs(p, t["a"]) for p in t["reject"])]
    report.ok(not bad, "and nothing that is rejected", bad[:2])
    bad, tried = [], 0
    for kind in STATED:
        some = [i["turns"][0] for _, i in items if i["type"] == kind][:60]
        for mine in some:
            for other in some:
                if mine["accept"] != other["accept"] and not language.score(mine["a"], {**other, "reject": []}):
                    tried += 1
                    if language.score(mine["a"], other):
                        bad.append((mine["a"], other))
    report.ok(tried > 5000 and not bad, "another answer of the type is not right", bad[:2])
    kinds = ("colour", "shape", "count", "size", "texture", "position")
    sets = [[i["turns"][0] for _, i in items if i["type"] == kind][:40] for kind in kinds]
    hedged = [(mine["a"], other["a"]) for some in sets for mine in some for other in some
              if mine["accept"] != other["accept"] and language.score(mine["a"] + " " + other["a"], mine)]
    report.ok(not hedged, "nor are two answers at once", hedged[:2])
    report.ok(language.occurs("red", "Red, I say") and not language.occurs("red", "reddish") and
              not language.occurs("clockwise", "anti-clockwise"), "a phrase counts as whole words")


def attributes(thing):
    return {thing.colour, thing.shape, thing.size, thing.texture, "object"}


def fits_phrase(thing, phrase):
    """Does thing answer to "the striped object" or "the object that moves up"? Judged word by word."""
    head, _, deed = phrase.partition(" that ")
    if not set(head.split()[1:]) <= attributes(thing):
        return False
    if deed == language.verb("still"):
        return not scene.MOVES & set(thing.actions)  # what grows does not move either
    return not deed or any(language.verb(a).startswith(deed) for a in thing.actions)


def check_references(report, scenes):
    bad, phrases = [], collections.Counter()
    for s in scenes:
        for i in range(len(s.objects)):
            for phrase in set(language.references(s, i)):
                phrases[len(phrase.split())] += 1
                fit = [j for j, o in enumerate(s.objects) if fits_phrase(o, phrase)]
                if fit != [i]:
                    bad.append((phrase, s.seed, [(o.size, o.texture, o.name, o.actions) for o in s.objects]))
    report.ok(len(phrases) > 3 and not bad, "each reference means one object", bad[:3])


def check_order(report, items):
    """Questions about order again from the events: the answer tells one event, and it lies where it should."""
    bad, n = [], 0
    for s, item in items:
        if item["type"] != "order" or item["turns"][0]["accept"][0][0] in ("yes", "no"):
            continue
        t, events = item["turns"][0], s.events()
        told = [k for k, (e, i) in enumerate(events)
                if language.occurs("%s %s" % (s.objects[i].name, language.verb(e.action)), t["a"].rstrip("."))]
        told = [k for k in told if not any(len(events[j][0].action) > len(events[k][0].action) for j in told)]
        n += 1
        if re.search(r"\b(first|earliest|beginning)\b|begin|starts|opens|leads|before anything", t["q"]):
            bad += [(t, told)] if told != [0] else []
        elif re.search(r"\b(last|final|latest|closes|completes|longest) ?(?!thing that happens before)", t["q"]) \
                and " after " not in t["q"] and " before " not in t["q"]:
            bad += [(t, told)] if told != [len(events) - 1] else []
        elif len(told) != 1:
            bad.append((t, told))
    report.ok(n > 50 and not bad, "first and last are first and last", bad[:2])


def turned(x, y):
    """Signed angle that a track goes round its middle, in radians, positive clockwise on the screen."""
    angle = np.unwrap(np.arctan2(y - (y.max() + y.min()) / 2, x - (x.max() + x.min()) / 2))
    return angle[-1] - angle[0]


def shows(action, box):
    """Do the boxes of one object ([T, 5]) show this action?"""
    dx, dy = box[-1, 0] - box[0, 0], box[-1, 1] - box[0, 1]
    ratio = box[-1, 2] / box[0, 2]
    seen = box[:, 4] > 0
    if action == "appear":
        return not seen[0] and seen[-1]
    if action == "vanish":
        return seen[0] and not seen[-1]
    if action in ("grow", "shrink"):
        return ratio > 1.5 if action == "grow" else ratio < 0.7
    if action == "bounce":
        return box[:, 1].max() - box[:, 1].min() > 0.08 and max(abs(dx), abs(dy)) < 0.25
    if action in ("clockwise", "anticlockwise"):
        x, y = box[:, 0], box[:, 1]
        area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2  # of the polygon, positive = clockwise
        return (area if action == "clockwise" else -area) > 0.012
    sx, sy = scene.STRAIGHT[action]
    return all(abs(d) > 0.12 and d * s > 0 if s else abs(d) < 1e-5 for d, s in ((dx, sx), (dy, sy)))


def check_motion(report, scenes):
    bad, done = [], collections.Counter()
    for s in scenes:
        boxes = render.boxes(s, scene.sample_times(s.n_frames))
        for i, o in enumerate(s.objects):
            if len(o.events) == 1 and s.camera == "still":
                action = o.actions[0]
                done[action] += 1
                if not shows(action, boxes[:, i]):
                    bad.append((s.seed, o.name, action, boxes[:, i].tolist()))
            elif s.camera == "still" and not o.events and np.ptp(boxes[:, i], axis=0).max() > 1e-6:
                bad.append((s.seed, o.name, "moved"))
        if s.camera != "still":
            done["camera"] += 1
            shift = np.ptp(boxes, axis=0)[:, :2]
            bad += [(s.seed, "pan")] if not (shift.max(axis=1) > 0.15).all() else []
    report.ok(len(done) == 16 and min(done.values()) > 20 and not bad, "eight frames show every action",
              (bad[:2], done))
    bad = []
    for s in scenes:
        for o in s.objects:
            for e in o.events:
                if e.action in scene.ORBITS:
                    x, y, _, _ = scene.trace(o, np.linspace(e.t0, e.t1, 40))
                    if (turned(x, y) > 3) != (e.action == "clockwise"):
                        bad.append((s.seed, o.name, e.action))
    report.ok(not bad, "clockwise is clockwise on the screen", bad[:3])


def seen_changes(event, u):
    """The steps between samples in which an event shows: numbers of the samples before."""
    if event.action in ("appear", "vanish"):
        state = np.clip((u - event.moment) / scene.FADE + 0.5, 0, 1)
    elif event.action == "bounce":
        state = np.abs(np.sin(math.pi * event.hops * np.clip((u - event.t0) / (event.t1 - event.t0), 0, 1)))
    else:
        state = scene.progress(event, u)
    return np.flatnonzero(np.abs(np.diff(state)) > 0.02)


def check_decided(report, scenes):
    """What eight frames leave of a sequence decides its order, its ways and its turns."""
    late, short, blurred, n = [], [], [], 0
    for s in scenes:
        u, (w, h) = scene.sample_times(s.n_frames), s.extent
        events = [e for e, _ in s.events()]
        steps = [seen_changes(e, u) for e in events]
        if s.kind == "sequence":
            n += 1
            late += [s.seed for a, b in zip(steps, steps[1:]) if not len(a) or not len(b) or b[0] < a[-1] or b.mean() < a.mean() + 1]
        for e in events:
            p = scene.progress(e, u)
            moved = p[-1] - p[0]
            if e.action in scene.STRAIGHT:  # in shares of the frame: a tenth is 22 pixels of a view
                along = [abs(d) * moved / side for d, side in zip(e.vec, (w, h)) if d]
                short += [(s.seed, e.action, along)] if min(along) < 0.15 else []
            elif e.action in scene.ORBITS:
                turn = np.abs(np.diff(p * e.turn))
                blurred += [(s.seed, e.action)] if turn.max() > 0.7 * math.pi or turn.sum() < 1.2 * math.pi else []
    report.ok(n > 300 and not late, "eight frames show which event comes first", late[:5])
    report.ok(not short, "each way is at least a seventh of the frame, on both axes if it is a diagonal", short[:3])
    report.ok(not blurred, "no turn is so quick that it could be the other one", blurred[:3])


def check_room(report, scenes):
    out, near, gaps = [], [], []
    for s in scenes:
        u = np.linspace(0, 1, 61)
        w, h = s.extent
        state = np.array([render.placed(s, o, u)[:3] for o in s.objects])
        x, y, r = state[:, 0], state[:, 1], state[:, 2]
        if not ((x - r > 0).all() and (y - r > 0).all() and (x + r < w).all() and (y + r < h).all()):
            out.append(s.seed)
        for i in range(len(x)):
            for j in range(i):
                ui, uj = (slice(None), slice(None)) if s.camera != "still" else (np.s_[:, None], np.s_[None])
                d = np.hypot(x[i][ui] - x[j][uj], y[i][ui] - y[j][uj]) - r[i][ui] - r[j][uj]
                near += [s.seed] if d.min() < 0 else []
        if s.kind == "sequence":
            spans = [(e.t0, e.t1) for e, _ in s.events()]
            gaps += [s.seed] if any(b - a < 0.2599 for a, b in spans) or \
                any(c[0] - b[1] < 0.0599 for b, c in zip(spans, spans[1:])) else []
    report.ok(not out, "objects stay inside the frame", out[:5])
    report.ok(not near, "their tracks never meet", near[:5])
    report.ok(not gaps, "events of a sequence are long enough and apart", gaps[:5])


# area of a shape of radius 1
FILLED = {"circle": 2.66, "square": 2.37, "triangle": 1.52, "heart": 2.0}


def check_pictures(report, scenes):
    wrong, off, still = [], [], 0
    for s in scenes:
        times = scene.sample_times(s.n_frames)
        frames, grid, boxes = render.render(s, times, 96, 96), render.cells(s, times), render.boxes(s, times)
        if not any(o.events for o in s.objects) and s.camera == "still":
            still += 1
            wrong += [(s.seed, "moved")] if (frames != frames[:1]).any() else []
        for t in range(len(times)):
            for i, o in enumerate(s.objects):
                cx, cy, rx, ry, seen = boxes[t, i]
                if o.shape in ("circle", "square", "triangle", "cross", "star") and o.texture == "plain":
                    pixel = frames[t, min(95, int(cy * 96)), min(95, int(cx * 96))].astype(int)
                    if seen == (np.abs(pixel - o.rgb).max() > 40) and scene.trace(o, times[t:t + 1])[3][0] in (0, 1):
                        wrong.append((s.seed, t, o.name, pixel.tolist()))
                where = np.argwhere(grid[t] == i)
                # the fullest of the four cells it may lie across gets a quarter at least; a fifth is needed (and sampled)
                big = rx * ry * FILLED.get(o.shape, 0) / 4 > 1.2 * 0.2 / 64
                if seen and big and not len(where) or not seen and len(where):
                    off.append((s.seed, t, o.name))
                for row, column in where:
                    dx, dy = abs((column + 0.5) / 8 - cx), abs((row + 0.5) / 8 - cy)
                    if dx > 1.2 * rx + 0.063 or dy > 1.2 * ry + 0.063:
                        off.append((s.seed, t, o.name, row, column))
    report.ok(not wrong, "the picture has each object's colour at its centre while it is there", wrong[:3])
    report.ok(not off, "cells and boxes agree", off[:3])
    s = scenes[0]
    big, small = (render.render(s, [0.0, 1.0], n, n).astype(float) for n in (128, 64))
    shrunk = big.reshape(2, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    report.ok(np.abs(shrunk - small).mean() < 2.0, "half the size looks the same", np.abs(shrunk - small).mean())


def check_images(report, scenes):
    bad, n = [], 0
    for s in scenes:
        for u in (0.0, 1.0):
            gone = [o.name for o in s.objects if scene.trace(o, np.array([u]))[3][0] == 0]
            for item in questions.make_image_questions(s, np.random.default_rng(s.seed), "train", 3, u):
                n += 1
                told = " ".join(t["a"] for t in item["turns"])
                bad += [(s.seed, told)] if any(language.occurs(g, told) and "no " + g not in told for g in gone) or \
                    re.search(r"moves|grows|vanish|camera|video|start", told) else []
    report.ok(n > 200 and not bad, "questions about a frame tell only what it shows", bad[:3])


def check_picture_files(report, scenes, folder):
    """write_png() is read back; a picture's questions have none about what moves."""
    n, bad, kinds = 0, [], set()
    for s in scenes:
        found = make_videos.picture_of(s)
        if found is None:
            continue
        still, time = found
        picture, path = render.render(s, [time], s.width, s.height)[0], os.path.join(folder, "x.png")
        make_videos.write_png(picture, path)
        with open(path, "rb") as f:
            data = f.read()
        at, chunks = 8, {}
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at:at + 8])
            chunks[kind] = data[at + 8:at + 8 + size]
            at += 12 + size
        size = struct.unpack(">II", chunks[b"IHDR"][:8])
        rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(size[1], 1 + 3 * size[0])
        n += 1
        bad += [s.seed] if rows[:, 0].any() or (rows[:, 1:].reshape(picture.shape) != picture).any() or b"IEND" not in chunks else []
        kinds |= {i["type"] for i in make_videos.ask(still, "test", 5, dict.fromkeys(questions.IMAGE_TYPES, 0))}
    report.ok(n > 10 and not bad, "a picture in its file is the picture", bad)
    report.ok(kinds == set(questions.IMAGE_TYPES), "its questions are those of a picture", kinds)


def check_choices(report, items):
    right, chance, sizes = collections.Counter(), collections.Counter(), collections.Counter()
    for _, item in items:
        if item["type"] == "choice":
            t = item["turns"][0]
            rows = re.findall(r"^\(([A-E])\) (.+)$", t["q"], flags=re.MULTILINE)
            sizes[len(rows)] += len({text for _, text in rows}) == len(rows)
            right[t["accept"][0][0][0]] += 1
            for letter, _ in rows:
                chance[letter] += 1 / len(rows)
            begun = item["answer_prefix"] == "Best option:("
            want = "%s%s) %s" % ("" if begun else "(", *[r for r in rows if r[0] == t["accept"][0][0][0]][0])
            sizes["bad"] += t["a"] != want
    report.ok(set(sizes) == {3, 4, 5, "bad"} and not sizes["bad"], "options differ, the answer is one of them", sizes)
    off = sum((right[c] - chance[c]) ** 2 / chance[c] for c in "ABCDE")
    report.ok(off < 20, "each letter is right as often as chance has it", (right, chance))


def check_document(report, train):
    """The numbers of docs/WORLD.md."""
    with open(os.path.join(ROOT, "docs", "WORLD.md"), encoding="utf-8") as f:
        text = f.read()
    said = re.search(r"radii of ([\d.]+), ([\d.]+), ([\d.]+) of the height at 4:3", text)
    real = [scene.RADIUS[s] / math.sqrt(3 / 4) for s in scene.SIZES]  # the frame has area 1
    report.ok(said and all(abs(float(a) - b) < 0.002 for a, b in zip(said.groups(), real)), "WORLD.md: sizes", real)
    near = [o.radius / scene.RADIUS[o.size] for s in train[:500] for o in s.objects]
    report.ok(0.959 < min(near) < 0.97 and 1.03 < max(near) < 1.041, "WORLD.md: 4 % more or less", (min(near), max(near)))
    number = int(re.search(r"of the (\d+) question wordings", text).group(1))
    report.ok(number == len(wordings.wordings()), "WORLD.md: wordings", len(wordings.wordings()))
    shares = [100 * sum(len(s.objects) == n for s in train) / len(train) for n in (1, 2, 3, 4)]
    said = re.search(r"1 to 4 \((\d+), (\d+), (\d+), (\d+) %\)", text).groups()
    report.ok(all(abs(int(a) - b) < 3 for a, b in zip(said, shares)), "WORLD.md: number of objects", shares)


def main():
    report = tap.Report()
    if np is None:
        report.skip("the world of tools/world", "numpy is not installed")
        return report.done()
    report.ok(digest("1") == digest("2"), "equal seeds give equal scenes and questions, whatever Python's hash seed")
    train = [scene.sample_scene(n, "train") for n in range(3000)]
    test = [scene.sample_scene(n, "test") for n in range(300)]
    items = [(s, i) for s in train[:360] + test[:150] for i in questions.make_questions(
        s, np.random.default_rng(s.seed), s.split, 5)]
    check_document(report, train)
    check_held_out(report, train, test, items)
    check_wordings(report, items)
    check_scores(report, items)
    check_references(report, train[:300] + test[:100])
    check_order(report, items)
    check_motion(report, train[:700])
    check_decided(report, train[:700] + test)
    check_room(report, train[:200] + test[:100])
    check_pictures(report, train[:40] + test[:20])
    check_images(report, test[:100])
    with tempfile.TemporaryDirectory() as folder:
        check_picture_files(report, test[:30], folder)
    check_choices(report, items)
    wordy = [s for s in train if len(s.objects) > 2 and len(s.events()) == 3]
    texts = [describe.make_dialogue_text(s, np.random.default_rng(s.seed)) for s in train[:200] + wordy]
    lengths = [len(t.split()) for t in texts]
    report.ok(40 <= min(lengths) and max(lengths) <= 90, "a full text has 40 to 90 words",
              (min(lengths), max(lengths)))
    asked = dict.fromkeys(questions.MAKERS, 0)
    for s in test[:100]:
        make_videos.ask(s, "test", 5, asked)
    report.ok(min(asked.values()) >= 20 and sum(asked.values()) == 500, "a set of questions has enough of each type",
              asked)
    report.ok(math.isclose(sum(c for _, c in scene.FORMATS), 100), "the shares of the formats add up")
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

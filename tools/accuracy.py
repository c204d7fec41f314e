#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Asks a model the questions of a folder and prints how many answers are right, by type of question.

  tools/accuracy.py DIR [-m MODEL] [--dtype bf16|f32|int8] [--black | --shuffle] [-o REPORT.json]
  tools/accuracy.py DIR --dtype f32 --compare REF.jsonl

DIR/questions.jsonl has one object a line:
  {"video": "videos/NAME.mp4", "id": "...", "type": "colour", "instruction": null, "answer_prefix": null,
   "turns": [{"q": "...", "a": "...", "accept": [["red"]], "reject": ["green"]}], "heldout": []}
"video" may be an image (.png, .jpg). "heldout" names what training never saw: "wording", or a combination of attributes.
The turns of an object are one conversation; it is right when every turn is (tools/scoring.py). Objects do not see
each other. --black and --shuffle change the video and nothing else: a model that looks must fall to chance, and lose
what depends on the order of frames.

The questions go through libivchat, answered greedily; a video is read once for all its questions. --jobs threads work
side by side, each with an engine of its own; the answers do not depend on their number. With --keep FILE.jsonl the
same command goes on where it was interrupted.

REF.jsonl has {"id": "...", "turn_ids": [[...]], "margin": [[...]]}: the ids another implementation generated, a final
end-of-sequence id included and at most --max-new-tokens of them, and for each the distance between the best and the second best logit.

Exit status: 0 done, 1 a video or a question failed, 2 usage or unusable input, 3 model.
"""
import argparse
import concurrent.futures
import ctypes
import json
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ivchat_ctypes as iv  # noqa: E402
import kept_lines  # noqa: E402
import scoring  # noqa: E402


class Unusable(Exception):
    """Input that makes no sense: the message says where."""


# ---------------------------------------------------------------- questions

def json_lines(path):
    """(number, object) of each line."""
    try:
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise Unusable("%s:%d: %s" % (path, number, error)) from error
                if not isinstance(value, dict):
                    raise Unusable("%s:%d: expected an object" % (path, number))
                yield number, value
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable("%s: %s" % (path, getattr(error, "strerror", None) or error)) from error


def is_turn(t):
    return isinstance(t, dict) and isinstance(t.get("q"), str) and isinstance(t.get("a"), str) and \
        isinstance(t.get("accept"), list) and t["accept"] and \
        all(isinstance(g, list) and g and all(isinstance(p, str) and scoring.words(p) for p in g) for g in t["accept"]) and \
        all(isinstance(p, str) for p in t.get("reject") or [])


def load_questions(folder):
    path = os.path.join(folder, "questions.jsonl")
    questions, ids = [], set()
    for number, q in json_lines(path):
        where = "%s:%d" % (path, number)
        for key in ("video", "id", "type"):
            if not isinstance(q.get(key), str) or not q[key]:
                raise Unusable('%s: "%s" is no text' % (where, key))
        if q["id"] in ids:
            raise Unusable('%s: id "%s" is there already' % (where, q["id"]))
        ids.add(q["id"])
        if not isinstance(q.get("turns"), list) or not q["turns"] or not all(map(is_turn, q["turns"])):
            raise Unusable('%s: a turn needs "q", "a" and groups of phrases in "accept"' % where)
        if not scoring.all_right([t["a"] for t in q["turns"]], q["turns"]):
            raise Unusable("%s: its own answer does not count as right" % where)
        if not os.path.isfile(os.path.join(folder, q["video"])):
            raise Unusable("%s: no file %s" % (where, q["video"]))
        questions.append(q)
    return questions


def choose(questions, types, limit):
    """Those of the types, the first `limit` of each type."""
    unknown = set(types or ()) - {q["type"] for q in questions}
    if unknown:
        raise Unusable("no question of type " + ", ".join(sorted(unknown)))
    seen, chosen = {}, []
    for q in questions:
        seen[q["type"]] = seen.get(q["type"], 0) + 1
        if (not types or q["type"] in types) and (not limit or seen[q["type"]] <= limit):
            chosen.append(q)
    return chosen


# ---------------------------------------------------------------- videos

def blackened(engine, video, **given):
    """As many black frames of the same size."""
    m = video.info
    return iv.Media.rgb(engine, bytes(3 * m.width * m.height * m.n_frame), m.n_frame, m.width, m.height, m.fps, **given)


def another_order(n, seed):
    """A permutation of range(n) that is not the identity, where there is one."""
    order = list(range(n))
    while n > 1 and order == sorted(order):
        random.Random(seed).shuffle(order)
        seed += "."
    return order


def shuffled(engine, video, seed):
    """The sampled frames in another order, the same in every tile."""
    data, (_, n_clip, n_frame, *rest) = video.read_pixels()
    size = ctypes.sizeof(ctypes.c_float)
    for d in rest:
        size *= d
    frames = [data[i * size:(i + 1) * size] for i in range(n_clip * n_frame)]
    order = another_order(n_frame, seed)
    mixed = b"".join(frames[c * n_frame + i] for c in range(n_clip) for i in order)
    return iv.Media.pixels(engine, mixed, n_clip, n_frame)


def is_image(name):
    return name.lower().endswith((".png", ".jpg", ".jpeg"))


def grid(text):
    columns, rows = text.split("x")
    return int(columns), int(rows)


def open_media(engine, path, name, options):
    columns, rows = options.fix_ratio or (None, None)
    given = {"n_frame": options.num_frames, "padding": options.padding, "fix_cols": columns, "fix_rows": rows}
    if is_image(name):
        return iv.Media.image(engine, path, **given)
    video = iv.Media.video(engine, path, **given)
    if not options.black and not options.shuffle:
        return video
    with video:
        if options.black:
            return blackened(engine, video, padding=options.padding, fix_cols=columns, fix_rows=rows)
        return shuffled(engine, video, "%d %s" % (options.seed, name))


# ---------------------------------------------------------------- asking

def empty_record(q, error=None):
    record = {"id": q["id"], "type": q["type"], "video": q["video"], "right": False, "turns": []}
    return record if error is None else {**record, "error": str(error)}


def ask_or_tell(engine, media, q, options):
    try:
        return ask(engine, media, q, options)
    except iv.Failure as error:
        return empty_record(q, error)


def ask(engine, media, q, options):
    """The record of one question in the report."""
    record = empty_record(q)
    with iv.Session(engine, media, instruction=q.get("instruction")) as session:
        for turn in q["turns"]:
            text, ids, reason = session.ask(turn["q"], max_new_tokens=options.max_new_tokens,
                                            answer_prefix=q.get("answer_prefix"))
            record["turns"].append({"q": turn["q"], "a": turn["a"], "response": text, "token_ids": ids,
                                    "finish_reason": reason, "right": scoring.is_right(text, turn)})
    record["right"] = all(t["right"] for t in record["turns"])
    return record


class Workers:
    """One engine for each thread that works."""

    def __init__(self, lib, options):
        self.lib, self.options = lib, options
        self.local = threading.local()
        self.engines = []

    def engine(self):
        if not hasattr(self.local, "engine"):
            o = self.options
            self.local.engine = iv.Engine(self.lib, model=o.model, dtype=o.dtype, variant=o.variant,
                                          n_threads=o.threads, cpu=o.cpu)
            self.engines.append(self.local.engine)
        return self.local.engine

    def video(self, name, questions):
        """Records of all questions about one video."""
        engine = self.engine()
        try:
            with open_media(engine, os.path.join(self.options.folder, name), name, self.options) as media:
                # by instruction: the Q-Former runs once for each
                return [ask_or_tell(engine, media, q, self.options)
                        for q in sorted(questions, key=lambda q: q.get("instruction") or "")]
        except iv.Failure as error:
            return [empty_record(q, error) for q in questions]

    def close(self):
        for engine in self.engines:
            engine.__exit__()


def run(questions, workers, options, kept=None):
    """Records in the order of questions; those that are kept already are not asked again."""
    records, begun = {r["id"]: r for r in (kept.lines if kept else ())}, time.monotonic()
    by_video = {}
    for q in questions:
        if q["id"] not in records:
            by_video.setdefault(q["video"], []).append(q)
    told = begun
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(workers.video, name, group) for name, group in by_video.items()]
        for done in concurrent.futures.as_completed(jobs):
            records.update((r["id"], r) for r in done.result())
            if kept:
                kept.add(r for r in done.result() if "error" not in r)
            now = time.monotonic()
            if not options.quiet and now - told > 5:
                told = now
                print("%d of %d questions, %.0f s" % (len(records), len(questions), now - begun), file=sys.stderr)
    return [records[q["id"]] for q in questions]


# ---------------------------------------------------------------- report

def counts(records):
    right = sum(r["right"] for r in records)
    low, high = scoring.interval(right, len(records))
    return {"questions": len(records), "right": right, "accuracy": right / len(records) if records else 0.0,
            "low": low, "high": high}


def summaries(questions, records):
    """Counts by type, by whether content was held out of training, and of all, with what guessing gets."""
    guess = {t: scoring.guessing([q for q in questions if q["type"] == t]) for t in {q["type"] for q in questions}}

    def of(keep):
        pairs = [(q, r) for q, r in zip(questions, records) if keep(q)]
        levels = [sum(guess[q["type"]][i] for q, _ in pairs) / max(1, len(pairs)) for i in (0, 1)]
        return {**counts([r for _, r in pairs]), "chance": levels[0], "constant": levels[1]}

    groups = {"new wording": lambda q: "wording" in (q.get("heldout") or []),
              "new content": lambda q: set(q.get("heldout") or []) - {"wording"},
              "nothing new": lambda q: not q.get("heldout")}
    held = {name: of(keep) for name, keep in groups.items()} if any(q.get("heldout") for q in questions) else {}
    return {"all": of(lambda q: True), "types": {t: of(lambda q, t=t: q["type"] == t) for t in sorted(guess)},
            "heldout": held, "videos": len({q["video"] for q in questions})}


def print_table(report):
    print("%-16s %9s %7s %9s %16s %8s %9s"
          % ("type", "questions", "right", "accuracy", "95 % interval", "chance", "constant"))
    rows = [*report["types"].items(), *report["heldout"].items(), ("all", report["all"])]
    for name, s in rows:
        print("%-16s %9d %7d %7.1f %% %6.1f - %5.1f %% %6.1f %% %7.1f %%"
              % (name, s["questions"], s["right"], 100 * s["accuracy"], 100 * s["low"], 100 * s["high"],
                 100 * s["chance"], 100 * s["constant"]))


# ---------------------------------------------------------------- another implementation

def is_ids(value, kinds):
    return isinstance(value, list) and all(isinstance(turn, list) and all(type(v) in kinds for v in turn) for turn in value)


def load_reference(path):
    reference = {}
    for number, r in json_lines(path):
        if not isinstance(r.get("id"), str) or not is_ids(r.get("turn_ids"), (int,)) or \
                not is_ids(r.get("margin", []), (int, float)):
            raise Unusable('%s:%d: expected "id", "turn_ids" and "margin"' % (path, number))
        reference[r["id"]] = r
    return reference


def first_difference(ours, theirs):
    """(turn, position) where two lists of turns first differ, None when they are equal."""
    for turn in range(max(len(ours), len(theirs))):
        a = ours[turn] if turn < len(ours) else []
        b = theirs[turn] if turn < len(theirs) else []
        if a != b:
            same = 0
            while same < min(len(a), len(b)) and a[same] == b[same]:
                same += 1
            return turn, same
    return None


def compare(records, reference):
    """Differences from reference; the margin is that of the reference at the first id that differs."""
    shared = [r for r in records if r["id"] in reference]
    out = {"questions": len(shared), "missing": len(records) - len(shared), "identical": 0, "different": []}
    for r in shared:
        ours, theirs = [t["token_ids"] for t in r["turns"]], reference[r["id"]]["turn_ids"]
        at = first_difference(ours, theirs)
        if at is None:
            out["identical"] += 1
            continue
        turn, position = at
        row = (reference[r["id"]].get("margin") or [[]] * (turn + 1))[turn:turn + 1]
        margin = row[0][position] if row and position < len(row[0]) else None
        out["different"].append({"id": r["id"], "turn": turn + 1, "position": position, "margin": margin,
                                 "ours": ours[turn:turn + 1], "theirs": theirs[turn:turn + 1]})
    out["different"].sort(key=lambda d: -1 if d["margin"] is None else d["margin"])
    return out


def print_comparison(c):
    for d in c["different"]:
        margin = "unknown" if d["margin"] is None else "%.3g" % d["margin"]
        print("differs: %s turn %d, id %d: margin %s, ours %s, theirs %s"
              % (d["id"], d["turn"], d["position"], margin, d["ours"], d["theirs"]))
    share = 100 * c["identical"] / c["questions"] if c["questions"] else 0
    print("identical ids: %d of %d questions (%.2f %%), %d without a reference"
          % (c["identical"], c["questions"], share, c["missing"]))


# ---------------------------------------------------------------- command line

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", metavar="DIR", help="folder with questions.jsonl and the videos it names")
    p.add_argument("-m", "--model", default=os.environ.get("IVCHAT_MODEL") or None,
                   help="folder of the model; default: the one that ships with ivchat")
    p.add_argument("-o", "--output", metavar="FILE", help="write the whole report there, as JSON")
    p.add_argument("--keep", metavar="FILE", help="keep the answers there, one JSON object a line, and go on behind those it has")
    p.add_argument("--library", default=iv.LIBRARY, help="libivchat.so; default: that of build/")
    p.add_argument("--dtype", choices=("bf16", "f32", "int8"), default="bf16")
    p.add_argument("--variant", choices=("8b", "hd", "f16", "internlm"))
    p.add_argument("--cpu", help="highest instruction set to use")
    p.add_argument("--num-frames", type=int, help="frames of a video; default: the variant's")
    p.add_argument("--padding", action="store_true", help="tiles by the video's shape")
    p.add_argument("--fix-ratio", type=grid, metavar="WxH", help="grid of tiles; default 2x1")
    p.add_argument("-n", "--max-new-tokens", type=int, default=200, help="as in chat; default 200")
    p.add_argument("-t", "--threads", type=int, default=1, help="threads of each engine")
    p.add_argument("-j", "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="videos at a time")
    change = p.add_mutually_exclusive_group()
    change.add_argument("--black", action="store_true", help="black frames in place of the video's")
    change.add_argument("--shuffle", action="store_true", help="the video's frames in another order")
    p.add_argument("--seed", type=int, default=0, help="of --shuffle")
    p.add_argument("--type", action="append", help="only this type of question; repeatable")
    p.add_argument("--limit", type=int, default=0, metavar="N", help="at most N questions of each type")
    p.add_argument("--compare", metavar="REF.jsonl", help="compare the generated ids with these")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    o = p.parse_args()
    if o.jobs < 1 or o.threads < 0 or o.limit < 0 or o.max_new_tokens < 1 or (o.num_frames or 0) < 0:
        p.error("--jobs and --max-new-tokens begin at 1, --threads, --limit and --num-frames at 0")
    if o.compare and (o.black or o.shuffle):
        p.error("--compare needs the videos as they are")
    return o


def settings(o, model):
    """What the answers depend on."""
    return {"model": model, "folder": o.model and os.path.abspath(o.model), "questions": os.path.abspath(o.folder),
            "video": "black" if o.black else "shuffled %d" % o.seed if o.shuffle else "as it is",
            "frames": o.num_frames, "padding": o.padding, "grid": o.fix_ratio, "tokens": o.max_new_tokens}


def main():
    o = arguments()
    try:
        reference = load_reference(o.compare) if o.compare else None
        questions = choose(load_questions(o.folder), o.type, o.limit)
        if not questions:
            raise Unusable("%s: no questions" % o.folder)
        if (o.black or o.shuffle) and any(is_image(q["video"]) for q in questions):
            raise Unusable("%s: --black and --shuffle are for videos" % o.folder)
        lib = iv.Library(o.library)
    except (Unusable, OSError, ValueError) as error:
        print("accuracy: %s" % error, file=sys.stderr)
        return 2
    workers, begun = Workers(lib, o), time.monotonic()
    try:
        info = workers.engine().info  # a model that cannot be opened is told once
        model = {"name": info.name.decode(), "variant": info.variant.decode(), "type": info.dtype.decode(),
                 "cpu": info.cpu.decode()}
        kept = o.keep and kept_lines.Kept(o.keep, settings(o, model))
        records = run(questions, workers, o, kept)
    except iv.Failure as error:
        print("accuracy: %s" % error, file=sys.stderr)
        return 3
    except (OSError, ValueError) as error:
        print("accuracy: %s" % error, file=sys.stderr)
        return 2
    finally:
        workers.close()
    report = {"model": model, "version": lib.iv_version().decode(),
              "video": "black" if o.black else "shuffled" if o.shuffle else "as it is",
              "seconds": round(time.monotonic() - begun, 1), **summaries(questions, records)}
    print("model %(name)s (%(variant)s, %(type)s, %(cpu)s)" % model +
          ", video %s, %d %s" % (report["video"], report["videos"], "images" if all(is_image(q["video"]) for q in questions) else "videos"))
    print_table(report)
    if reference is not None:
        report["compared"] = compare(records, reference)
        print_comparison(report["compared"])
    failed = [r for r in records if "error" in r]
    for r in failed[:20]:
        print("accuracy: %s: %s" % (r["id"], r["error"]), file=sys.stderr)
    if failed:
        print("accuracy: %d questions could not be asked" % len(failed), file=sys.stderr)
    if o.output:
        with open(o.output, "w", encoding="utf-8") as f:
            json.dump({**report, "questions": records}, f, ensure_ascii=False, indent=1)
            f.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

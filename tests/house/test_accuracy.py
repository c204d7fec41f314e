# SPDX-License-Identifier: MIT
"""tools/accuracy.py: the scorer case by case, the structs read from ivchat.h against the compiler's, and whole runs
over a handful of questions with the random test model, whose ids the program must give too."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import accuracy  # noqa: E402
import ivchat_ctypes as iv  # noqa: E402
import scoring  # noqa: E402
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("IVCHAT_TEST_BUILD", os.path.join(ROOT, "build"))
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
MEDIA = os.path.join(ROOT, "tests", "fixtures", "media")
TOOL = os.path.join(ROOT, "tools", "accuracy.py")

# answer, accept, reject, right?
SCORES = [
    ("The circle is red.", [["red"]], [], True),
    ("The circle is RED!", [["red"]], [], True),
    ("The circle is (red).", [["red"]], [], True),
    ("The circle is redder.", [["red"]], [], False),
    ("The circle is dark-red.", [["red"]], [], False),
    ("It moves up-left.", [["up-left"]], ["left"], True),
    ("It moves up left.", [["up left"]], [], True),
    ("It moves up, left.", [["up left"]], [], True),
    ("It moves left up.", [["up left"]], [], False),
    ("A red circle.", [["red"], ["circle"]], [], True),
    ("A red square.", [["red"], ["circle"]], [], False),
    ("A red disc.", [["red"], ["circle", "disc"]], [], True),
    ("Red, not green.", [["red"]], ["green"], False),
    ("Red, not greenish.", [["red"]], ["green"], True),
    ("(B) left", [["b"], ["left"]], ["a", "c"], True),
    ("It's a don\u2019t.", [["its a dont"]], [], True),
    ("(E) a circle", [["E)"]], ["A)"], True),
    ("(A) a circle", [["E)"]], ["A)"], False),
    ("e", [["E)"]], ["A)"], True),
    ("a circle", [["A)"]], [], False),
    ("", [["red"]], [], False),
    ("...", [["red"]], [], False),
    ("Es ist gr\u00fcn.", [["GR\u00dcN"]], [], True),
    ("1 2 3", [["2 3"]], ["12"], True),
]


def turn(question, answer, accept=None, reject=()):
    return {"q": question, "a": answer, "accept": accept or [[answer]], "reject": list(reject)}


def check_scoring(report):
    for answer, accept, reject, right in SCORES:
        report.ok(scoring.is_right(answer, {"accept": accept, "reject": reject}) is right,
                  "%r %s %s" % (answer, accept, reject))
    report.ok(not scoring.all_right(["red"], [turn("", "red"), turn("", "red")]), "a missing turn is not right")
    yes_no = [{"turns": [turn("?", a)]} for a in ("yes", "yes", "yes", "no")]
    chance, constant = scoring.guessing(yes_no)
    report.ok(abs(chance - (3 * 0.75 + 0.25) / 4) < 1e-9 and constant == 0.75, "guessing yes or no", (chance, constant))
    options = [{"turns": [turn("Which?\nOptions:\n(A) red\n(B) blue\n(C) green\n(D) grey\n", a)]} for a in ("a", "b")]
    report.ok(scoring.guessing(options) == (0.25, 0.5), "guessing among options", scoring.guessing(options))
    two = [{"turns": [turn("?", "left"), turn("?", b)]} for b in ("red", "blue")]
    report.ok(scoring.guessing(two) == (0.5, 0.5), "guessing two turns", scoring.guessing(two))
    low, high = scoring.interval(95, 100)
    report.ok(0.88 < low < 0.89 and 0.97 < high < 0.98 and scoring.interval(0, 0) == (0, 1), "the interval", (low, high))
    orders = [accuracy.another_order(8, str(n)) for n in range(50)]
    report.ok(all(sorted(o) == list(range(8)) != o for o in orders) and len({tuple(o) for o in orders}) > 45 and
              accuracy.another_order(2, "x") == [1, 0] and accuracy.another_order(1, "x") == [0],
              "another order is another order")


def check_layout(report):
    """Sizes and offsets of every struct, by the compiler."""
    structs = iv.read_structs(iv.read_header())
    lines = ['printf("%s %%zu", sizeof(struct %s));' % (n, n) + "".join(
        'printf(" %%zu", offsetof(struct %s, %s));' % (n, f) for f, _ in s._fields_) + 'puts("");'
        for n, s in structs.items()]
    with tempfile.TemporaryDirectory() as top:
        source, exe = os.path.join(top, "layout.c"), os.path.join(top, "layout")
        with open(source, "w", encoding="utf-8") as f:
            f.write("#include <ivchat.h>\n#include <stdio.h>\nint main(void)\n{\n%s\nreturn 0;\n}\n" % "\n".join(lines))
        subprocess.run(["cc", "-I" + os.path.join(ROOT, "include"), source, "-o", exe], check=True)
        told = subprocess.run([exe], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
    mine = [" ".join(map(str, [n, iv.ctypes.sizeof(s), *(getattr(s, f).offset for f, _ in s._fields_)]))
            for n, s in structs.items()]
    report.ok(len(structs) >= 10 and mine == told, "the structs of ivchat.h are laid out as the compiler does",
              "\n".join("%s\n%s" % pair for pair in zip(mine, told) if pair[0] != pair[1]))
    try:
        iv.read_structs("struct iv_x {\n    long double y;\n};\n")
        report.ok(False, "an unknown kind of member is an error")
    except ValueError as error:
        report.ok("iv_x" in str(error), "an unknown kind of member is an error", error)


QUESTIONS = [
    {"video": "videos/a.mp4", "id": "a1", "type": "colour", "turns": [turn("What colour?", "red", [["red"]], ["blue"])]},
    {"video": "videos/a.mp4", "id": "a2", "type": "order", "instruction": "Watch the order.\n",
     "turns": [turn("What is first?", "the circle"), turn("And then?", "the square")], "heldout": ["circle red"]},
    {"video": "videos/b.webm", "id": "b1", "type": "colour", "answer_prefix": "It is",
     "turns": [turn("What colour?", "blue")]},
]


def tool(*args):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("IVCHAT_")}
    done = subprocess.run([sys.executable, TOOL, *args, "-q", "--library", os.path.join(BUILD, "libivchat.so")],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, env=clean)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def write_lines(path, objects):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(o) + "\n" for o in objects)


def ids_of(report):
    return {q["id"]: [list(t["token_ids"]) for t in q["turns"]] for q in report["questions"]}


def check_runs(report, top):
    data, out = os.path.join(top, "data"), os.path.join(top, "report.json")
    os.makedirs(os.path.join(data, "videos"))
    shutil.copy(os.path.join(MEDIA, "bframes.mp4"), os.path.join(data, "videos", "a.mp4"))
    shutil.copy(os.path.join(MEDIA, "vp9.webm"), os.path.join(data, "videos", "b.webm"))
    write_lines(os.path.join(data, "questions.jsonl"), QUESTIONS)
    base = [data, "-m", MODEL, "--dtype", "f32", "-n", "6", "--num-frames", "2"]

    def run(*args):
        if os.path.exists(out):
            os.remove(out)
        status, said, told = tool(*base, "-o", out, *args)
        if not os.path.exists(out):
            return status, said, told, None
        with open(out, encoding="utf-8") as f:
            return status, said, told, json.load(f)

    status, said, told, first = run("-j", "2")
    report.ok(status == 0 and told == "" and [q["id"] for q in first["questions"]] == ["a1", "a2", "b1"] and
              first["all"]["questions"] == 3 and first["videos"] == 2 and set(first["types"]) == {"colour", "order"} and
              [len(q["turns"]) for q in first["questions"]] == [1, 2, 1] and
              first["heldout"]["new content"]["questions"] == 1 and
              first["heldout"]["nothing new"]["questions"] == 2, "a run reports every question", (said, told, first))
    report.ok("colour" in said and first["types"]["colour"]["chance"] == 0.5 and
              first["all"]["right"] == sum(q["right"] for q in first["questions"]), "the table", said)
    if os.environ.get("IVCHAT"):
        for q in QUESTIONS:
            done = subprocess.run(
                [os.environ["IVCHAT"], "chat", "-m", MODEL, "--dtype", "f32", "-n", "6", "--num-frames", "2", "-q", "--json",
                 "--video", os.path.join(data, q["video"]), *[a for t in q["turns"] for a in ("-p", t["q"])],
                 *(["--instruction", q["instruction"]] if "instruction" in q else []),
                 *(["--answer-prefix", q["answer_prefix"]] if "answer_prefix" in q else [])],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            theirs = [json.loads(line)["token_ids"] for line in done.stdout.splitlines()]
            report.ok(theirs == ids_of(first)[q["id"]], "the program gives the same ids: " + q["id"], theirs)
    _, said, told, again = run("-j", "1", "-t", "2")
    report.ok(again["questions"] == first["questions"], "threads and jobs change nothing", told)
    status, said, told, black = run("--black")
    report.ok(status == 0 and "video black" in said and ids_of(black) != ids_of(first), "--black", (said, told))
    status, said, told, mixed = run("--shuffle")
    report.ok(status == 0 and mixed["video"] == "shuffled", "--shuffle", (said, told))
    status, said, told, some = run("--type", "colour", "--limit", "1")
    report.ok(status == 0 and [q["id"] for q in some["questions"]] == ["a1"], "--type, --limit", told)

    # ---- interrupted: what was kept is not asked again, a torn line is
    kept = os.path.join(top, "kept.jsonl")
    status, said, told, whole = run("--keep", kept)
    with open(kept, encoding="utf-8") as f:
        lines = f.readlines()
    report.ok(status == 0 and len(lines) == 4 and whole["questions"] == first["questions"], "--keep keeps every answer", told)
    answered = json.loads(lines[1])
    answered["turns"][0]["response"] = "from the file"
    with open(kept, "w", encoding="utf-8") as f:
        f.write(lines[0] + json.dumps(answered) + "\n" + lines[2][:-9])
    status, said, told, rest = run("--keep", kept)
    texts = {q["id"]: q["turns"][0]["response"] for q in rest["questions"]}
    with open(kept, encoding="utf-8") as f:
        again = [json.loads(line).get("id") for line in f]
    report.ok(status == 0 and texts.pop(answered["id"]) == "from the file" and len(texts) == 2 and
              all(t == {q["id"]: q for q in first["questions"]}[i]["turns"][0]["response"] for i, t in texts.items()) and
              sorted(again[1:]) == ["a1", "a2", "b1"], "and goes on behind them", (told, again))
    status, said, told, none = run("--keep", kept, "--black")
    report.ok(status == 2 and none is None and "other settings" in told, "not with another video: exit 2", told)

    # ---- another implementation's ids
    reference = [{"id": i, "turn_ids": ids, "margin": [[0.5] * len(t) for t in ids]} for i, ids in ids_of(first).items()]
    ref = os.path.join(top, "ref.jsonl")
    write_lines(ref, reference)
    status, said, told, same = run("--compare", ref)
    report.ok(status == 0 and same["compared"]["identical"] == 3 and "3 of 3 questions (100.00 %)" in said,
              "--compare: equal", said + told)
    reference[1]["turn_ids"][1][2] += 1
    reference[1]["margin"][1][2] = 0.001
    reference[0]["turn_ids"][0].append(2)
    write_lines(ref, reference[:2])
    status, said, told, other = run("--compare", ref)
    c = other["compared"]
    report.ok(status == 0 and (c["questions"], c["missing"], c["identical"]) == (2, 1, 0) and
              [(d["id"], d["turn"], d["position"], d["margin"]) for d in c["different"]] ==
              [("a1", 1, len(ids_of(first)["a1"][0]), None), ("a2", 2, 2, 0.001)] and
              "differs: a2 turn 2, id 2: margin 0.001" in said, "--compare: where and by which margin", (said, c))

    # ---- what cannot be used
    shutil.copy(os.path.join(MEDIA, "empty.mp4"), os.path.join(data, "videos", "b.webm"))
    status, said, told, bad = run()
    report.ok(status == 1 and "b1: " in told and bad["questions"][2]["error"] and
              bad["questions"][:2] == first["questions"][:2], "a broken video is told, the rest is asked", told)
    status, said, told, none = run("-m", top)
    report.ok(status == 3 and none is None and len(told.splitlines()) == 1, "no model: exit 3", told)
    for what, change, text in (
            ("not JSON", None, ":1:"), ("twice the id", {"id": "a1"}, "there already"), ("no turns", {"turns": []}, "a turn needs"),
            ("an empty group", {"turns": [turn("?", "x", [[]])]}, "a turn needs"),
            ("an own answer that is wrong", {"turns": [turn("?", "x", [["y"]])]}, "own answer"),
            ("an own answer that is rejected", {"turns": [turn("?", "x y", [["y"]], ["x"])]}, "own answer"),
            ("a missing video", {"video": "videos/c.mp4"}, "no file videos/c.mp4"), ("a number as type", {"type": 3}, '"type"')):
        write_lines(os.path.join(data, "questions.jsonl"), [QUESTIONS[0], {**QUESTIONS[1], **(change or {})}])
        if change is None:
            with open(os.path.join(data, "questions.jsonl"), "w", encoding="utf-8") as f:
                f.write("{")
        status, said, told, none = run()
        report.ok(status == 2 and none is None and len(told.splitlines()) == 1 and text in told, what + ": exit 2", told)


def check_videos(report):
    """What --black and --shuffle make of a video, as pixels."""
    lib = iv.Library(os.path.join(BUILD, "libivchat.so"))
    with iv.Engine(lib, model=MODEL, tokenizer_only=True) as engine:
        with iv.Media.video(engine, os.path.join(MEDIA, "bframes.mp4"), n_frame=6) as video:
            plain, dim = video.read_pixels()
            with accuracy.blackened(engine, video) as black, accuracy.shuffled(engine, video, "s") as mixed:
                dark, dark_dim = black.read_pixels()
                other, other_dim = mixed.read_pixels()
    size = 3 * 224 * 224 * 4
    order = accuracy.another_order(6, "s")

    def frame(data, clip, i):
        return data[(6 * clip + i) * size:(6 * clip + i + 1) * size]

    report.ok(dim == other_dim == [1, 3, 6, 3, 224, 224] and
              all(frame(other, c, i) == frame(plain, c, order[i]) for c in range(3) for i in range(6)) and
              frame(plain, 0, 0) != frame(plain, 0, 1), "--shuffle: the same frames in another order, in every tile")
    flat = iv.ctypes.c_float * (len(dark) // 4)
    levels = {round(v, 4) for v in flat.from_buffer(dark)}
    report.ok(dark_dim == dim and levels == {round((0 - m) / s, 4) for m, s in
                                             ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))},
              "--black: nothing but black", levels)


def main():
    report = tap.Report()
    check_scoring(report)
    check_layout(report)
    check_videos(report)
    with tempfile.TemporaryDirectory() as top:
        check_runs(report, top)
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

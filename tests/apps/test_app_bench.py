#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat bench`: what it prints as text, JSON and CSV, that the numbers fit each other, and what is refused. No time is
held against a limit: those are the machine's."""
import csv
import io
import json
import statistics

import program
from program import Tap, make_image, make_video, path, run

tap = Tap()
model = program.TINY
clip = make_video()
ALL = ["video", "preprocess", "vision", "qformer", "prefill", "decode", "sessions", "first-turn", "second-turn", "second-turn-warm"]
FEW = ["--repeat", "2", "-n", "4", "--prompt-tokens", "40", "--context", "40", "--num-frames", "2"]


def near(a, b):
    return abs(a - b) <= 1e-9 + 1e-6 * abs(b)


def sane(stage, measured):
    """The numbers of one stage of --json fit each other."""
    ms = stage["samples_ms"]
    good = stage["runs"] == len(ms) > 0 and all(m >= 0 for m in ms)
    good = good and stage["min_ms"] == min(ms) <= stage["median_ms"] <= max(ms) == stage["max_ms"]
    good = good and near(stage["median_ms"], statistics.median(ms)) and near(stage["mean_ms"], statistics.fmean(ms))
    good = good and near(stage["deviation_ms"], statistics.stdev(ms) if len(ms) > 1 else 0)
    if stage["flop"] > 0 and stage["median_ms"] > 0:
        good = good and near(stage["gflops"], stage["flop"] / stage["median_ms"] * 1e-6)
        good = good and near(stage["gbs"], stage["bytes"] / stage["median_ms"] * 1e-6)
    if measured and stage["flop"] > 0:
        good = good and stage["limit_ms"] > 0 and stage["bound"] in ("memory", "compute")
        good = good and near(stage["share"], stage["limit_ms"] / stage["median_ms"])
    else:
        good = good and stage["limit_ms"] is None and stage["bound"] is None and stage["share"] is None
    if measured and stage["stage"] == "decode":  # the median of the steps' shares
        reads = stage["samples_read_gbs"]
        good = good and len(reads) == len(ms) and near(stage["read_gbs"], statistics.median(reads))
        good = good and stage["bytes"] / max(reads) / max(ms) <= 1e6 * stage["share"] <= stage["bytes"] / min(reads) / min(ms)
    return good and ("peaks_before" in stage) == ("read_gbs" in stage) == measured


# ---- everything, as JSON; the peaks, which take a second each time, around two stages only
r = run("bench", "-m", model, "--video", clip, "--sessions", "3", "--json", "--no-peaks", *FEW)
told = json.loads(r.out) if r.code == 0 else {"stages": [], "peaks": {}}
stages = {s["stage"]: s for s in told["stages"]}
tap.ok(r.code == 0 and r.out.count("\n") == 1 and list(stages) == ALL, "--json: one object with every stage", r)
for name, stage in stages.items():
    tap.ok(sane(stage, False), "numbers of " + name, stage)
tap.ok(told["model"]["type"] == "bf16" and told["settings"]["prompt_tokens"] == 40 and told["version"], "model and settings", told)
r = run("bench", "-m", model, "--stage", "qformer", "--stage", "decode", "--json", *FEW)
beside = json.loads(r.out) if r.code == 0 else {"stages": [], "peaks": {}}
tap.ok([s["stage"] for s in beside["stages"]] == ["qformer", "decode"] and all(sane(s, True) for s in beside["stages"]),
       "numbers beside the peaks", r)
peaks = beside["peaks"]
tap.ok(peaks["read_gbs"] > 0 and peaks["f32_gflops"] > 0 and peaks["bf16_gflops"] >= 0 and peaks["int8_gops"] >= 0 and
       peaks["threads"] == told["model"]["threads"], "peaks of the machine", peaks)
tap.ok(all(stages[n]["runs"] == 2 for n in ALL if n != "decode") and stages["decode"]["runs"] == 2 * 3,
       "runs: --repeat of each; of n tokens n - 1 are steps", {n: s["runs"] for n, s in stages.items()})
tap.ok(stages["vision"]["flop"] > stages["qformer"]["flop"] > 0 and stages["video"]["flop"] == 0 and
       stages["decode"]["bytes"] > stages["decode"]["flop"] / 100 > 0, "what is counted", stages)
tap.ok(near(stages["prefill"]["tokens_per_s"], 40e3 / stages["prefill"]["median_ms"]) and
       near(stages["sessions"]["tokens_per_s"], 3e3 / stages["sessions"]["median_ms"]), "tokens a second", stages)
turn = stages["first-turn"]
tap.ok(turn["flop"] > 3 * stages["vision"]["flop"] and stages["second-turn"]["flop"] < turn["flop"],
       "a first turn counts three clips and the prompt, a second one what is new", turn)

# twice the prompt is a little more than twice the work
counts = [json.loads(run("bench", "-m", model, "--stage", "prefill", "--no-peaks", "--repeat", "1", "--prompt-tokens", n, "--json").out)
          ["stages"][0] for n in ("100", "200")]
tap.ok(1.9 < counts[1]["flop"] / counts[0]["flop"] < 2.2 and all(sane(c, False) for c in counts), "--prompt-tokens; --no-peaks", counts)

# ---- where the time of a turn goes
r = run("bench", "-m", model, "--video", clip, "--stage", "vision", "--stage", "qformer", "--profile", "--no-peaks", "--json", *FEW)
told = json.loads(r.out) if r.code == 0 else {"stages": [{}, {}], "profile": {"rows": []}}
profile = told["profile"]
rows = {(row["stage"], row["kind"]): row for row in profile["rows"]}
flop = {s: sum(row["flop"] for (stage, _), row in rows.items() if stage == s) for s in ("vision", "qformer", "prefill", "decode")}
tap.ok(r.code == 0 and {(s, k) for s in flop for k in ("products", "attention", "moves")} | {("vision", "norms")} <= set(rows), "--profile: stages and kinds", r)
tap.ok(near(flop["vision"], 3 * told["stages"][0]["flop"]) and near(flop["qformer"], 3 * told["stages"][1]["flop"]) and
       flop["prefill"] > flop["decode"] > 0, "--profile: each operation is counted once", (flop, told["stages"]))
tap.ok(all(row["ms"] >= 0 and row["cpu_ms"] >= 0 and row["calls"] > 0 for row in rows.values()) and
       near(profile["turn_ms"], profile["media_ms"] + profile["rest_ms"] + sum(row["ms"] for row in rows.values())),
       "--profile: the rows and the rest are the turn", profile)
r = run("bench", "-m", model, "--stage", "peaks", "--profile", *FEW)
tap.ok(r.code == 0 and all(word in r.out for word in ("of limit", "vision    products", "decode    attention", "turn  ")) and
       "\nstage" not in r.out, "--profile as text, without any stage", r)

# ---- text and CSV
r = run("bench", "-m", model, "--stage", "decode", "--stage", "vision", *FEW)
lines = [line.split()[0] for line in r.out.splitlines() if line]
tap.ok(r.code == 0 and lines == ["model", "peaks", "stage", "vision", "decode"], "text: a table of the stages asked for", r)
r = run("bench", "-m", model, "--stage", "prefill", "--stage", "preprocess", "--csv", *FEW)
rows = list(csv.DictReader(io.StringIO(r.out, newline="")))
tap.ok(r.code == 0 and [row["stage"] for row in rows] == ["preprocess", "prefill"] and r.out.count("\r\n") == 3, "--csv", r)
tap.ok(all(None not in row and float(row["min_ms"]) <= float(row["median_ms"]) <= float(row["max_ms"]) and float(row["read_gbs"]) > 0
           for row in rows) and rows[1]["bound"] in ("memory", "compute") and rows[0]["bound"] == "", "--csv: the numbers", rows)
r = run("bench", "--stage", "peaks", env={"IVCHAT_MODELS_DIR": path("absent")})
tap.ok(r.code == 0 and r.out.startswith("peaks ") and r.out.count("\n") == 1, "peaks alone need no model", r)
r = run("bench", "--stage", "peaks", "--csv", env={"IVCHAT_MODELS_DIR": path("absent")})
rows = list(csv.DictReader(io.StringIO(r.out, newline="")))
tap.ok(r.code == 0 and [row["stage"] for row in rows] == ["peaks"] and None not in rows[0] and rows[0]["median_ms"] == rows[0]["bound"] == "" and
       float(rows[0]["read_gbs"]) > 0 and float(rows[0]["f32_gflops"]) > 0, "--csv: peaks alone are a row", r)
r = run("bench", "--stage", "peaks", "--cpu", "ref", "-t", "1", "--json", env={"IVCHAT_MODELS_DIR": path("absent")})
ref = json.loads(r.out)["peaks"] if r.code == 0 else {}
tap.ok(ref.get("cpu") == "ref" and ref["bf16_gflops"] == ref["int8_gops"] == 0 and ref["threads"] == 1, "--cpu and -t", r)
r = run("bench", "-m", model, "--stage", "preprocess", "--no-peaks", "--dtype", "f32", "--cpu", "ref", "--json", *FEW)
info = json.loads(r.out)["model"] if r.code == 0 else {}
tap.ok(info.get("type") == "f32" and info.get("cpu") == "ref", "--dtype and --cpu reach the engine", r)

# ---- refused
for args, code, text in (
        (["--stage", "visoin"], 2, "did you mean vision?"),
        (["--stage", "video"], 2, "--video"),
        (["--stage", "sessions"], 2, "--sessions"),
        (["--json", "--csv"], 2, "exclude each other"),
        (["--stage", "peaks", "--no-peaks"], 2, "exclude each other"),
        (["--profile", "--csv"], 2, "exclude each other"),
        (["--image", make_image()], 2, "--image"),
        (["--video", "-"], 2, "--video -"),
        (["--video", clip, "--segments", "1"], 2, "--segments"),
        (["--stage", "decode", "-n", "1"], 2, "--max-new-tokens 1"),
        (["--repeat", "0"], 2, "--repeat"),
        (["--stage", "prefill", "--no-peaks", "--prompt-tokens", "1"], 2, "no prompt of that length"),
        (["--stage", "prefill", "--no-peaks", "--prompt-tokens", "900000"], 5, "900000"),
        (["--stage", "preprocess", "--no-peaks", "--video", path("absent.mp4")], 4, "absent.mp4"),
        (["--stage", "decode", "-m", path("absent")], 3, "absent"),
        (["--stage", "peaks", "--cpu", "mmx"], 2, "mmx"),
        (["x"], 2, "unexpected argument")):
    r = run("bench", "-m", model, *args)
    tap.ok(r.code == code and text in r.err and r.out == "" and len(r.lines) == 1, "refused: " + " ".join(a.replace(program.SCRATCH.name, "") for a in args), r)
tap.done()

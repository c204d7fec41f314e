#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What tools/bench_peers.py makes of its rounds: times, rates and shares of the machine's peaks, ratios round by round and
their medians.

The machine has faster and slower minutes. Runs in whose surroundings it gave less than 0.9 of its best are left out. A ratio
"at even peaks" takes the rest out: each time is multiplied with the peak around it first.

A round is {"work", "stages", "peak", "clips", "program", "settings", "runs": {NAME: {"ms": {STAGE: ms}, "before": peaks,
"after": peaks, "detail": what ivchat bench counted; ours only}}}, ours first.
"""
import json
import os
import statistics

from peer_runs import disturbed

UNIT = {"read_gbs": "GB/s", "bf16_gflops": "GFLOP/s", "int8_gops": "GOP/s", "f32_gflops": "GFLOP/s"}


def load(path):
    """A last line that was cut short is left out."""
    rounds = []
    if path and os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for line in f:
                try:
                    rounds.append(json.loads(line))
                except ValueError:
                    pass
    return rounds


def newest(rounds):
    """Those of each work that were made with the program and settings of its last."""
    last = {r["work"]: (r["program"], r["settings"]) for r in rounds}
    return [r for r in rounds if last[r["work"]] == (r["program"], r["settings"])]


def by_work(rounds):
    works = {}
    for r in rounds:
        works.setdefault(r["work"], []).append(r)
    return works


# ---- numbers of a round

def ours_of(r):
    return next(iter(r["runs"]))


def detail(r, stage):
    """What ivchat bench counted, {} where it did not."""
    found = [d for d in r["runs"][ours_of(r)].get("detail", []) if d["stage"] == stage]
    return found[0] if found else {}


def peak(run, name):
    return (run["before"][name] + run["after"][name]) / 2


def rate(r, name, stage):
    """(rate, its share of the peak around the run), or (None, None). The work is that of ours. Steps of ours have their share from
    what was read between them."""
    run, counted = r["runs"][name], detail(r, stage)
    amount = counted.get("bytes" if r["peak"] == "read_gbs" else "flop")
    if not r["peak"] or not amount or stage not in parts(r, name):
        return None, None
    value = amount / run["ms"][stage] * 1e-6
    if name == ours_of(r) and stage == "decode" and counted.get("share"):
        return value, counted["share"]
    return value, value / peak(run, r["peak"])


def parts(r, name):
    run = r["runs"].get(name)
    return run["ms"] if run and not left_out(r, run) else {}


def left_out(r, run):
    return any(disturbed(run[k], r.get("best", 0)) for k in ("before", "after"))


def with_best(rounds):
    """Each round knows the machine's best of all of them."""
    best = max((run[k]["f32_gflops"] for r in rounds for run in r["runs"].values() for k in ("before", "after")), default=0)
    return [{**r, "best": best} for r in rounds]


def part_ms(r, name, stage, even):
    """Of one of them; even: as long as it would have taken with the peaks around ours."""
    kind = "read_gbs" if stage == "decode" else "bf16_gflops"
    scale = peak(r["runs"][name], kind) / peak(r["runs"][ours_of(r)], kind) if even else 1
    return parts(r, name)[stage] * scale


def glued(r, even=False):
    """[(title, ms of a first turn put together of what was measured in this round)]"""
    names, steps = list(r["runs"])[1:], r["settings"]["new_turn"] - 1
    clips = {n: r["clips"] * part_ms(r, n, "vision", even) for n in names if "vision" in parts(r, n)}
    texts = {n: part_ms(r, n, "prefill", even) + steps * part_ms(r, n, "decode", even) for n in names if "decode" in parts(r, n)}
    reference = ("eager", "PyTorch with LoRA")
    made = [(" + ".join(pair), clips[pair[0]] + texts[pair[1]]) for pair in [reference] if pair[0] in clips and pair[1] in texts]
    clips.pop(reference[0], None)
    texts.pop(reference[1], None)
    if clips and texts:  # the peers' best of this round
        made.append(("best peers glued", min(clips.values()) + min(texts.values())))
    return made


def ratios(rounds, name, stage, kind=None):
    """kind: the peak that is evened out"""
    out = []
    for r in rounds:
        theirs, ours = parts(r, name), parts(r, ours_of(r))
        if theirs.get(stage) and ours.get(stage):
            even = peak(r["runs"][name], kind) / peak(r["runs"][ours_of(r)], kind) if kind else 1
            out.append(theirs[stage] / ours[stage] * even)
    return out


# ---- told

def median_of(values, form):
    return form % statistics.median(values) + (" [%s]" % " ".join(form % v for v in values) if len(values) > 1 else "")


def summary(rounds):
    """[{stage, name, ms: [], rate: [], share: [], ratio: []}]; ratio: how many times faster ours is."""
    rows = []
    for stage in rounds[0]["stages"]:
        for name in dict.fromkeys(n for r in rounds for n in r["runs"]):
            mine = [r for r in rounds if stage in parts(r, name)]
            if not mine:
                continue
            row = {"stage": stage, "name": name, "about": mine[-1]["runs"][name].get("about", ""),
                   "ms": [parts(r, name)[stage] for r in mine]}
            told = [t for t in (rate(r, name, stage) for r in mine) if t[0]]
            if told:
                row.update(rate=[t[0] for t in told], share=[t[1] for t in told], unit=UNIT[rounds[0]["peak"]])
            elif name == ours_of(rounds[0]) and detail(mine[0], stage).get("share"):
                counted = [detail(r, stage) for r in mine]
                row.update(share=[d["share"] for d in counted], bound=counted[0]["bound"],
                           gflops=[d["flop"] / ms * 1e-6 for d, ms in zip(counted, row["ms"])],
                           gbs=[d["bytes"] / ms * 1e-6 for d, ms in zip(counted, row["ms"])])
            if name != ours_of(rounds[0]):
                row["ratio"] = ratios(rounds, name, stage)
                row["even"] = ratios(rounds, name, stage, rounds[0]["peak"])
            rows.append(row)
    return rows


def extras(rounds):
    """[(text, values)] of what is more than a stage of one of them."""
    out, ours = [], ours_of(rounds[0])
    names = list(dict.fromkeys(n for r in rounds for n in r["runs"]))
    if "sessions" in rounds[0]["stages"]:
        n = rounds[0]["settings"]["sessions"]
        for name in names:
            pairs = [parts(r, name) for r in rounds if "sessions" in parts(r, name)]
            out.append(("%s: %d at once give times one" % (name, n), [n * p["decode"] / p["sessions"] for p in pairs]))
    for name in names:
        kept = [p["decode"] / p["decode-beside"] for p in (parts(r, name) for r in rounds) if "decode-beside" in p]
        slow = [r["runs"][name] for r in rounds if name in r["runs"] and "too_slow" in r["runs"][name]]
        if kept:
            out.append(("%s: beside a busy process keeps" % name, kept))
        if slow:
            out.append(("%s: beside a busy process did not end; keeps less than" % name, [s["seconds"] / s["too_slow"] for s in slow]))
    if "first-turn" in rounds[0]["stages"]:
        for stage in ("second-turn", "second-turn-warm"):
            both = [(parts(r, ours).get("first-token"), parts(r, ours).get(stage)) for r in rounds]
            out.append(("first token of %s sooner than of the first turn, times" % stage, [a / b for a, b in both if a and b]))
        for title in dict.fromkeys(t for r in rounds for t, _ in glued(r)):
            out.append(("%s, s" % title, [dict(glued(r))[title] / 1e3 for r in rounds if title in dict(glued(r))]))
            for even in (False, True):
                out.append(("    ivchat's first turn faster, times" + (" at even peaks" if even else ""), [
                    dict(glued(r, even))[title] / parts(r, ours)["first-turn"] for r in rounds
                    if title in dict(glued(r, even)) and "first-turn" in parts(r, ours)]))
    return [(text, values) for text, values in out if values]


def surroundings(rounds):
    peaks = [run[k] for r in rounds for run in r["runs"].values() for k in ("before", "after")]
    said = ["%s %.0f-%.0f" % (name, min(p[name] for p in peaks), max(p[name] for p in peaks)) for name in UNIT
            if all(p.get(name) for p in peaks)]
    return "  peaks " + ", ".join(said)


def show(rounds):
    for work, mine in by_work(rounds).items():
        mine = with_best(mine)
        print("\n%s: %d rounds, ivchat %s, %s" % (work, len(mine), mine[-1]["program"], mine[-1]["processor"]))
        print(surroundings(mine))
        disturbed_runs = sum(left_out(r, run) for r in mine for run in r["runs"].values())
        if disturbed_runs:
            print("  %d runs left out, disturbed" % disturbed_runs)
        for row in summary(mine):
            line = "  %-16s %-22s %s ms" % (row["stage"], row["name"], median_of(row["ms"], "%.1f"))
            if "rate" in row:
                line += "  %.1f %s, %.0f %%" % (statistics.median(row["rate"]), row["unit"], 100 * statistics.median(row["share"]))
            elif "share" in row:
                line += "  %.0f GFLOP/s, %.1f GB/s, %.0f %% of the limit (%s)" % (
                    *(statistics.median(row[k]) for k in ("gflops", "gbs")), 100 * statistics.median(row["share"]), row["bound"])
            if row.get("ratio"):
                line += "  ivchat is %s x" % median_of(row["ratio"], "%.2f")
            if row.get("even") and mine[0]["peak"]:
                line += ", at even peaks " + median_of(row["even"], "%.2f")
            print(line + ("  (%s)" % row["about"] if row["about"] else ""))
        for text, values in extras(mine):
            print("  %s %s" % (text, median_of(values, "%.2f")))
    return 0


def show_json(rounds):
    print(json.dumps([{"work": work, "rounds": len(mine), "program": mine[-1]["program"], "processor": mine[-1]["processor"],
                       "settings": mine[-1]["settings"], "rows": summary(mine),
                       "more": [{"what": t, "values": v} for t, v in extras(mine)]} for work, mine in
                      ((w, with_best(m)) for w, m in by_work(rounds).items())], indent=1))
    return 0

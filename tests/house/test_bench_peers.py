#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/bench_peers.py: what it makes of measured rounds, and what it refuses; nothing is measured."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "bench_peers.py")


def run(*args):
    done = subprocess.run([sys.executable, TOOL, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def ours(**ms):
    detail = [{"stage": k, "median_ms": v, "share": 0.5, "bound": "memory", "tokens_per_s": (8e3 if k == "sessions" else 1e3) / v}
              for k, v in ms.items()]
    return {**ms, "detail": detail}


RESULTS = {
    # pairs of one round each: 1.5, 1.25 and 3
    "gguf X": {"stages": ["prefill", "decode"], "rounds": [
        {"ivchat": ours(prefill=100, decode=10), "peer": {"prefill": 150}},
        {"ivchat": ours(prefill=200, decode=10), "peer": {"prefill": 250}},
        {"ivchat": ours(prefill=100, decode=10), "peer": {"prefill": 300}}]},
    # a step of eight takes twice as long as one: four times as many tokens
    "sessions X": {"stages": ["decode", "sessions"], "rounds": [{"ivchat": ours(decode=10, sessions=20)}]},
    "beside X": {"beside": [{"ivchat": {"alone": 10, "beside": 20}, "ik": {"alone": 10, "beside": None}}]},
}


def main():
    report = tap.Report()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "r.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(RESULTS, f)
        code, out = run("table", "--out", path)
        report.ok(code == 0 and "ivchat is 1.50 x [1.50 1.25 3.00]" in out, "the median of the rounds' ratios", out)
        report.ok("50 % of the limit (memory)" in out and "100.0 tokens/s" in out, "ours: rate and share", out)
        report.ok("together 4.00 x one" in out, "several conversations beside one", out)
        report.ok("keeps 50 %" in out and "keeps 0 %" in out, "beside a busy process", out)
        report.ok(out.count("decode ") == 2, "a stage that a peer lacks is left out", out)
    for args, text in ((["run"], "--env"), (["run", "--env", "x"], "--model"), (["install"], "--env"),
                       (["run", "--env", "x", "--model", "y", "--only", "viison"], "no work viison"),
                       (["run", "--env", "x", "--model", "y", "--only", "turn"], "--video")):
        code, out = run(*args)
        report.ok(code != 0 and text in out, "refused: " + " ".join(args), out)
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

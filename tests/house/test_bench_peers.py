#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/bench_peers.py: what it makes of measured rounds, how it goes on with a file of them, and what it refuses; ivchat
and its peers are made up, nothing is measured."""
import argparse
import json
import os
import stat
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import bench_peers  # noqa: E402
import peer_cpu  # noqa: E402
import peer_runs  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "bench_peers.py")
PEAKS = {"read_gbs": 50, "f32_gflops": 500, "bf16_gflops": 1000, "int8_gops": 2000}
BASE = {"processor": "made up", "program": "abc", "settings": {"new_turn": 100, "sessions": 8}, "clips": 3, "seconds": 1}

# Says what bench would, whatever it is asked; each prefill is counted in a file beside it.
FAKE = """#!{python}
import json, sys
if "peaks" in sys.argv:
    print(json.dumps({{"peaks": {peaks}}}))
else:
    open(__file__ + ".count", "a").write("x")
    if "-v" in sys.argv and "--video" in sys.argv:
        print("first turn: prefill 5 ms of 322 tokens, 300 ms for 8 tokens; second: 322 of 340 kept; warm", file=sys.stderr)
        print(json.dumps({{"stages": [{{"stage": "first-turn", "median_ms": 900}}, {{"stage": "second-turn", "median_ms": 50}}]}}))
        sys.exit()
    print(json.dumps({{"stages": [{{"stage": "vision", "median_ms": 100, "flop": 5e10, "bytes": 0}}]}}))
"""


def run(*args):
    done = subprocess.run([sys.executable, TOOL, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def measured(peaks=None, detail=None, **ms):
    made = {"ms": {k.replace("_", "-"): v for k, v in ms.items()}, "before": peaks or PEAKS, "after": PEAKS, "seconds": 2}
    return {**made, "detail": detail} if detail else made


def prefills():
    """Pairs of one round each: 1.5, 1.25 and 3. 100 ms for 5e10 are half of the peak."""
    detail = [{"stage": "prefill", "flop": 5e10, "bytes": 1}]
    return [{**BASE, "work": "prefill X", "stages": ["prefill"], "peak": "bf16_gflops", "runs": {
        "ivchat": measured(prefill=a, detail=detail), "peer": measured(prefill=b)}} for a, b in ((100, 150), (200, 250), (100, 300))]


def others():
    slow = {**measured(decode=10), "too_slow": 20}
    fast = {**PEAKS, "read_gbs": 150}
    yield {**BASE, "work": "decode X", "stages": ["decode"], "peak": "read_gbs", "runs": {  # 80 GB/s of (150 + 50) / 2
        "ivchat": measured(fast, decode=50, detail=[{"stage": "decode", "flop": 1, "bytes": 4e9}]), "ik": measured(decode=50)}}
    yield {**BASE, "work": "decode X", "stages": ["decode"], "peak": "read_gbs", "runs": {  # half its rate just then
        "ivchat": measured(fast, decode=50), "ik": measured({**PEAKS, "f32_gflops": 440}, decode=500)}}
    told = {"stage": "decode", "flop": 1, "bytes": 4.5e9, "share": 0.97}
    yield {**BASE, "work": "decode Y", "stages": ["decode"], "peak": "read_gbs", "runs": {
        "ivchat": measured(fast, decode=50, detail=[told]), "ik": measured(decode=60)}}
    yield {**BASE, "work": "sessions X", "stages": ["decode", "sessions"], "peak": None, "runs": {  # eight in the time of two
        "ivchat": measured(decode=10, sessions=20)}}
    yield {**BASE, "work": "beside X", "stages": ["decode"], "peak": None, "runs": {
        "ivchat": measured(decode=10, decode_beside=20), "ik": slow}}
    yield {**BASE, "work": "turn", "stages": ["first-turn", "second-turn"], "peak": None, "runs": {
        "ivchat": measured(first_turn=50e3, second_turn=2e3, first_token=24e3),
        "zentorch": measured(vision=6e3), "openvino-bf16": measured(vision=7e3), "ik BF16": measured(prefill=5e3, decode=300),
        "eager": measured(vision=11e3), "PyTorch with LoRA": measured(prefill=7e3, decode=400)}}


def tables(report, path):
    stale = {**prefills()[0], "program": "before"}
    with open(path, "w", encoding="utf-8") as f:
        f.write("".join(json.dumps(r) + "\n" for r in [stale, *prefills(), *others()]) + '{"work": "cut sho')
    code, out = run("table", "--out", path)
    report.ok(code == 0 and "ivchat is 1.50 [1.50 1.25 3.00] x, at even" in out, "the median of the rounds' ratios", out)
    report.ok("prefill X: 3 rounds, ivchat abc" in out, "rounds of another program are not counted", out)
    report.ok("500.0 GFLOP/s, 50 %" in out and "333.3 GFLOP/s, 33 %" not in out and "200.0 GFLOP/s, 20 %" in out, "rates of all", out)
    report.ok("80.0 GB/s, 80 %" in out, "the peak is the mean of before and after", out)
    report.ok("90.0 GB/s, 97 %" in out and "75.0 GB/s, 150 %" in out, "ours by what was read between its steps", out)
    report.ok("ivchat is 1.00 x, at even peaks 0.50" in out and "1 runs left out" in out, "even peaks; a disturbed run", out)
    report.ok("8 at once give times one 4.00" in out, "several conversations beside one", out)
    report.ok("ivchat: beside a busy process keeps 0.50" in out, "beside a busy process", out)
    report.ok("ik: beside a busy process did not end; keeps less than 0.10" in out, "who does not end beside it", out)
    report.ok("sooner than of the first turn, times 12.00" in out, "the second turn", out)
    report.ok("eager + PyTorch with LoRA, s 79.60" in out and "faster, times 1.59" in out, "the reference's turn", out)
    report.ok("best peers glued, s 52.70" in out and "faster, times 1.05" in out, "a turn of the best of each", out)
    code, out = run("table", "--out", path, "--json")
    report.ok(code == 0 and json.loads(out)[0]["rows"][1]["ratio"] == [1.5, 1.25, 3.0], "as JSON", out)


def multiplied(report):
    """Layers of 218.1 M weights, 176.2 of them feed-forward, and 134.2 in the output matrix: 4 of them at 1 ms a 1e8 weights."""
    ms = peer_cpu.whole_model({"decode": 10.066, "prefill": 1.342 + 100 * (4 - 0.8077)}, 4)
    report.ok(abs(ms["decode"] - 71.136) < 0.01, "a token of 32 layers from one of 4", ms)
    report.ok(abs(ms["prefill"] - (1.342 + 100 * (32 - 0.8077))) < 0.3, "a prompt, but for what the last layer leaves out", ms)


LLAMA_BENCH = """#!{python}
import json, sys
n = int(sys.argv[sys.argv.index("-r") + 1])
new = int(sys.argv[sys.argv.index("-n") + 1])
rows = [{{"n_prompt": 322, "n_gen": 0, "samples_ns": [9000000000] + [5000000000] * (n - 1)}},
        {{"n_prompt": 0, "n_gen": new, "samples_ns": [new * 1000000 * (100 + 30 * i) for i in range(n)]}}]
print("made up", json.dumps(rows))
"""


def repeated(report, folder):
    """Of ik's prompts the median, of its steps the mean; so many of them as were asked for."""
    build = os.path.join(folder, "ik", "build", "bin")
    os.makedirs(build)
    fake = os.path.join(build, "llama-bench")
    with open(fake, "w", encoding="utf-8") as f:
        f.write(LLAMA_BENCH.format(python=sys.executable))
    os.chmod(fake, os.stat(fake).st_mode | stat.S_IXUSR)
    args = argparse.Namespace(env=folder, layers=4, small=False, new=16, threads=2, prompt=322, patience=60)
    ms = peer_runs.Ik(args, "ik", "whole.gguf").once(["prefill", "decode"])
    report.ok(ms == {"prefill": 5000, "decode": 130}, "three prompts and runs of steps", ms)
    ms = peer_runs.Ik(args, "ik", "whole.gguf", repeats=5, new=100).once(["decode"])
    report.ok(ms == {"decode": 160}, "more of them", ms)


class CountedSteps(peer_cpu.LlamaCpp):
    """Without a model."""

    def __init__(self, args):  # pylint: disable=super-init-not-called
        self.args, self.context, self.took = args, None, []
        self.c = argparse.Namespace(llama_memory_clear=lambda *a: None, llama_get_memory=lambda c: c)

    def prompt(self, conversation, n):
        pass

    def steps(self, conversations, behind, n):
        self.took.append(n)
        return [10.0 * len(self.took)] * n


def as_long(report, folder):
    """Peers of a few layers decode so often that they take as long as ours; nobody else does."""
    options = {"env": folder, "threads": 2, "prompt": 322, "context": 32, "new": 16, "layers": 2, "small": False, "sessions": 8,
               "model": folder, "gguf": None, "ivchat": "ivchat", "ours": ""}
    args = argparse.Namespace(**options)
    for work, times in ((bench_peers.decode, 16), (bench_peers.sessions, 1)):
        _, llamacpp, *ik = next(work(args)).everybody
        told = [llamacpp.command[llamacpp.command.index("--repeats") + 1], *((i.repack, i.repeats) for i in ik)]
        want = [str(times), (False, max(3, times)), (True, max(3, times))]
        report.ok(told == want[:2 + (work == bench_peers.decode)], "%s: runs of peers of two layers" % work.__name__, told)
    peer = CountedSteps(argparse.Namespace(repeats=3, context=32, new=4))
    report.ok(peer.once(["decode"]) == {"decode": 20} and peer.took == [4] * 3, "llama.cpp decodes again, the median is told", peer.took)


def going_on(report, folder):
    """A second call makes only what is missing."""
    fake, out = os.path.join(folder, "ivchat"), os.path.join(folder, "rounds")
    with open(fake, "w", encoding="utf-8") as f:
        f.write(FAKE.format(python=sys.executable, peaks=PEAKS))
    os.chmod(fake, os.stat(fake).st_mode | stat.S_IXUSR)
    common = ["run", "--env", folder, "--model", "m", "--ivchat", fake, "--only", "vision", "--out", out]
    code, text = run(*common, "--rounds", "2")
    report.ok(code == 0 and "vision: 2 rounds" in text, "two rounds without any peer there", text)
    report.ok("left out" in text, "peers that are not there are told", text)
    code, text = run(*common, "--rounds", "3")
    with open(fake + ".count", encoding="utf-8") as f:
        made = len(f.read())
    report.ok(code == 0 and "vision: 3 rounds" in text and made == 3, "the third alone is made", text)
    code, text = run(*common, "--rounds", "3", "--prompt", "5")
    report.ok("vision: 3 rounds" in text and os.path.getsize(fake + ".count") == 6, "other settings begin anew", text)
    code, text = run("run", "--env", folder, "--model", "m", "--ivchat", fake, "--only", "second", "--video", "v", "--rounds", "1")
    report.ok("times 12.00" in text and "prompts 322, 340 tokens, 322 kept" in text, "the first token, from what bench says", text)
    with open(out, encoding="utf-8") as f:
        rounds = [json.loads(line) for line in f]
    with open(out, "w", encoding="utf-8") as f:  # a round that takes for ever
        f.write(json.dumps({**rounds[0], "seconds": 1e6}) + "\n")
    code, text = run(*common, "--rounds", "2", "--within", "1000")
    report.ok(code == 3 and "missing: vision" in text, "no round that would not end in time", text)


def main():
    report = tap.Report()
    multiplied(report)
    with tempfile.TemporaryDirectory() as folder:
        tables(report, os.path.join(folder, "r"))
        repeated(report, folder)
        as_long(report, folder)
        going_on(report, folder)
    for args, text in ((["run"], "--env"), (["run", "--env", "x"], "--model"), (["install"], "--env"), (["files", "--env", "x"], "--model"),
                       (["run", "--env", "x", "--model", "y", "--only", "viison"], "no work viison"),
                       (["run", "--env", "x", "--model", "y", "--only", "turn"], "--video"),
                       (["run", "--env", "x", "--model", "y", "--only", "turn-int8"], "--gguf")):
        code, out = run(*args)
        report.ok(code != 0 and text in out, "refused: " + " ".join(args), out)
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

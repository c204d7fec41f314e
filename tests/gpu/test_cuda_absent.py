#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A program built with CUDA on a machine that has no GPU: it starts, --device auto runs on the CPU and says why, and
--device cuda:0 is refused, but for plans; and --gpu-weights, which a quantised model does not take on a GPU, is nothing
there. Skipped where there is a GPU."""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("IVCHAT", os.path.join(ROOT, "build-cuda", "ivchat"))
sys.path.insert(0, os.path.join(ROOT, "tests", "apps"))
from program import NO_MODEL, Tap, model, path, run  # noqa: E402


def main():
    tap = Tap()
    folder = model("tiny-internlm")
    reason = NO_MODEL if not folder else "this machine has a GPU" if os.path.exists("/dev/nvidia0") else None
    if reason:
        tap.skip("without a GPU", reason)
        tap.done()
    args = ["chat", "-m", folder, "-n", "1", "-p", "What?"]
    auto = run(*args, "--device", "auto", "-v")
    tap.ok(auto.code == 0 and " on cpu " in auto.err, "--device auto runs on the CPU", auto)
    tap.ok("no CUDA device" in auto.err and "running on the CPU" in auto.err, "and says why at -v", auto)
    quiet = run(*args)
    tap.ok(quiet.code == 0 and "CUDA" not in quiet.err, "and nothing of it without -v", quiet)
    asked = run(*args, "--device", "cuda:0")
    tap.ok(asked.code == 2 and "cuda:0" in asked.err and "no CUDA device" in asked.err and not asked.out,
           "--device cuda:0 is refused with the reason", asked)
    made = run("quantize", os.path.join(ROOT, "tests", "fixtures", "tiny-model"), path("blocks"), "--type", "Q8_0", "-q")
    args = ["chat", "-m", made.out.splitlines()[0], "-n", "1", "-p", "What?", "-v", "--gpu-weights", "q4_0"]
    auto, asked = run(*args, "--device", "auto"), run(*args, "--device", "cuda:0")
    tap.ok(auto.code == 0 and " on cpu " in auto.err, "--gpu-weights with a quantised model, --device auto: the CPU", auto)
    tap.ok(asked.code == 2 and not asked.out, "and --device cuda:0 is refused", asked)
    plan = run("info", "-m", folder, "--plan", "--json", "-q", "--device", "cuda:0")
    gpu = json.loads(plan.out)["plan"].get("gpu", {}) if plan.code == 0 else {}
    tap.ok(gpu.get("kind") == "estimate" and "no CUDA device" in gpu["reason"] and gpu["peak_bytes"] > gpu["weight_bytes"] > 0 and
           "free_bytes" not in gpu, "info --plan estimates what it would take", plan)
    text = run("info", "-m", folder, "--plan", "--device", "cuda:0")
    tap.ok(text.code == 0 and "not here, so estimated: cuda:0: no CUDA device" in text.out, "and says so", text)
    tap.done()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""--weights auto: a model that is large enough is copied to large pages, and answers as where it is mapped; without
memory for it, or where there are no large pages, it stays mapped. The model is made here and needs numpy."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests", "apps")]
from program import SCRATCH, Tap, run  # noqa: E402

TOOL = os.path.join(ROOT, "tools", "random_checkpoint.py")
FIXTURE = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
SIZES = ["--llm-d", "1024", "--llm-layers", "3", "--llm-heads", "8", "--llm-kv", "2", "--llm-head-dim", "128",
         "--llm-ffn", "4096", "--llm-vocab", "524"]
LINE = re.compile(r"weights: (\d+) of (\d+) MiB of the language model copied to large pages")
tap = Tap()


def offered():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as f:
            return "[never]" not in f.read()
    except OSError:
        return False


def main():
    model = os.path.join(SCRATCH.name, "model")
    made = subprocess.run([sys.executable, TOOL, "--preset", "tiny", model, "--tokenizer", FIXTURE, *SIZES],
                          capture_output=True, text=True, check=False)
    if "numpy" in made.stderr:
        tap.skip("a copy in large pages", "no numpy for " + sys.executable)
        return
    file = next(f for f in os.listdir(model) if f.endswith(".safetensors"))
    with open(os.path.join(model, file), "rb") as f:  # in small pieces of the page cache, as downloads leave it
        data = f.read()
    with open(os.path.join(model, file), "wb", buffering=0) as f:
        for at in range(0, len(data), 4096):
            f.write(data[at:at + 4096])
    ask = ["chat", "-m", model, "-p", "What?", "-n", "6", "--ignore-eos", "-v", "--device", "cpu"]
    mapped = run(*ask)
    tap.ok(mapped.code == 0 and "weights:" not in mapped.err, "one question: mapped", mapped)
    auto = run(*ask, "--weights", "auto")
    told = LINE.search(auto.err)
    if not offered():
        tap.ok(auto.code == 0 and not told and auto.out == mapped.out, "no large pages: mapped", auto)
        return
    tap.ok(auto.code == 0 and told and 32 <= int(told.group(2)) < len(data) >> 20, "auto: what decoding reads is to be copied", auto)
    tap.ok(auto.out == mapped.out, "the same answer", (auto.out, mapped.out))
    bad = run(*ask, "--weights", "copied")
    tap.ok(bad.code == 2 and "auto or mapped" in bad.err.replace("|", " or "), "another word", bad)
    plan = run("info", "-m", model, "--plan", "-v", "--weights", "auto")
    tap.ok(plan.code == 0 and "weights:" not in plan.err, "nothing is copied for a plan", plan)


main()
tap.done()

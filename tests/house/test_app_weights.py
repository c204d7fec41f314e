# SPDX-License-Identifier: MIT
"""--weights auto: a model that is large enough is copied to large pages, and answers as where it is mapped. The model is
made here and needs numpy."""
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
    tap.ok(auto.code == 0 and auto.out == mapped.out, "auto: the same answer", (auto.out, mapped.out))
    if not told:
        tap.ok("weights: no large pages" in auto.err, "no large pages: mapped", auto)
        tap.skip("what decoding reads is copied", "this system offers no large pages, or does not tell which there are")
    else:
        tap.ok(32 <= int(told.group(2)) < len(data) >> 20, "what decoding reads is to be copied", auto)
        tap.ok(int(told.group(1)) > 0, "and is", auto)
        bench = run("bench", "-m", model, "-v", "--device", "cpu", "--stage", "decode", "--context", "60", "-n", "2",
                    "--repeat", "1", "--no-peaks")
        tap.ok(bench.code == 0 and LINE.search(bench.err), "bench: auto", bench)
        made = run("quantize", model, os.path.join(SCRATCH.name, "gguf"), "--type", "BF16")
        ask[2] = made.out.splitlines()[0] if made.out else ""
        file, copied = run(*ask), run(*ask, "--weights", "auto")
        tap.ok(made.code == 0 and file.code == 0 and (copied.code, copied.out) == (0, file.out), "a GGUF file: the same answer", copied)
    bad = run(*ask, "--weights", "copied")
    tap.ok(bad.code == 2 and "auto or mapped" in bad.err.replace("|", " or "), "another word", bad)
    plan = run("info", "-m", model, "--plan", "-v", "--weights", "auto")
    tap.ok(plan.code == 0 and "weights:" not in plan.err, "nothing is copied for a plan", plan)


main()
tap.done()

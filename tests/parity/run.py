#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares ivchat with the golden data: `make parity`.

First every case that the command line can name, through the built program: chat turns about yoga.mp4 (ids,
text, prompt length), pixels by `embed`, the tokenizers by `tokenize`. Then every case through libivchat
(the program `parity`), with each stage's distance. The last line is "N equal, N different".
"""
import argparse
import array
import json
import math
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Table:
    def __init__(self):
        self.equal = self.different = 0

    def row(self, case, what, equal, detail):
        if equal:
            self.equal += 1
        else:
            self.different += 1
        print(f"{case:<24} {what:<14} {'equal' if equal else 'DIFFERENT':<9} {detail}", flush=True)


def read_npy(path):
    """(shape, array) of a version 1 .npy file of f32, i32 or u8."""
    with open(path, "rb") as f:
        head = f.read(10)
        size = int.from_bytes(head[8:10], "little")
        header = f.read(size).decode()
        kind = re.search(r"'descr': '([^']+)'", header).group(1)
        shape = [int(x) for x in re.findall(r"\d+", re.search(r"\(([^)]*)\)", header).group(1))]
        data = array.array({"<f4": "f", "<i4": "i", "|u1": "B"}[kind])
        data.frombytes(f.read())
        return shape, data


class Runner:
    def __init__(self, args):
        self.args, self.table = args, Table()
        self.yoga = os.path.join(args.data, "upstream", "yoga.mp4")
        with open(os.path.join(args.golden, "manifest.json"), encoding="utf-8") as f:
            self.cases = json.load(f)["cases"]
        self.scratch = tempfile.TemporaryDirectory()

    def ivchat(self, *words, text=None):
        run = subprocess.run([self.args.program, *words], input=text, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"exit {run.returncode}: {run.stderr.strip().splitlines()[-1:]}")
        return run.stdout

    def model(self, name):
        return os.path.join(self.args.golden, name)

    def chat(self, case):
        """A golden chat case as a command line, or None when its media has no file."""
        given, name = case["inputs"], case["id"]
        media = given.get("media", "")
        words = ["chat", "-m", self.model(given["checkpoint"]), "--json", "--quiet", "--allow-special",
                 "--dtype", "f32", "-n", str(given.get("max_new_tokens", 32)), "--video", self.yoga]
        if media == "media/yoga_8b":
            words += ["--variant", "8b"]
        elif media.startswith("yoga.mp4, 16 segments"):
            words += ["--num-frames", "16"]
        elif media.startswith("yoga.mp4, 8 segments, hd_num 4, padding"):
            words += ["--hd-num", "4", "--padding"]
        elif media != "media/yoga_hd pixels":
            return None
        for key, option in (("instruction", "--instruction"), ("msg", "--msg"), ("answer_prompt", "--answer-prefix"),
                            ("num_beams", "--num-beams"), ("length_penalty", "--length-penalty"),
                            ("repetition_penalty", "--repetition-penalty")):
            if given.get(key) is not None:
                words.append(f"{option}={given[key]}")
        # a second turn is reached by asking the first one, whose answer must then be the recorded one
        prompts = [turn[0] for turn in given.get("history") or []] + [given["prompt"]]
        for prompt in prompts:
            words += ["-p", prompt]
        lines = [json.loads(line) for line in self.ivchat(*words).splitlines()]
        last, values = lines[-1], case["values"]
        for turn, line in zip(given.get("history") or [], lines):
            self.table.row(name, "cli history", line["response"] == turn[1], "the first turn's answer")
        self.table.row(name, "cli ids", last["token_ids"] == values["generated_ids"],
                       f"{len(last['token_ids'])} ids")
        self.table.row(name, "cli response", last["response"] == values["response"], f"{len(last['response'])} characters")
        self.table.row(name, "cli prompt", last["prompt_tokens"] == values["prompt_length"],
                       f"{last['prompt_tokens']} ids, expected {values['prompt_length']}")
        return last

    def pixels(self, case):
        given, out = case["inputs"], os.path.join(self.scratch.name, "pixels.npy")
        words = ["embed", "-m", self.model("tiny-hd"), "--stage", "pixels", "-o", out, "--quiet", "--video",
                 self.yoga, "--num-frames", str(given["segments"])]
        if given.get("hd_num"):
            words += ["--hd-num", str(given["hd_num"])]
        if given.get("padding"):
            words.append("--padding")
        if case["id"].endswith("_8b"):
            words += ["--variant", "8b"]
        self.ivchat(*words)
        _, got = read_npy(out)
        arrays = {a["name"]: a for a in case["arrays"]}
        if "pixels" in arrays:
            limit = arrays["pixels"]["tolerance"]["max_abs"]
            _, want = read_npy(os.path.join(self.args.golden, arrays["pixels"]["file"]))
        else:
            limit = arrays["pixels_values"]["tolerance"]["max_abs"]
            _, at = read_npy(os.path.join(self.args.golden, arrays["pixels_at"]["file"]))
            _, want = read_npy(os.path.join(self.args.golden, arrays["pixels_values"]["file"]))
            got = [got[i] for i in at]
        worst = max((abs(a - b) for a, b in zip(got, want)), default=math.inf)
        self.table.row(case["id"], "cli pixels", len(got) == len(want) and worst <= limit,
                       f"max-abs {worst:.3g} (<= {limit:g})")

    def tokenizer(self, case):
        model = self.model("tiny-internlm" if "internlm2" in case["id"] else "tiny-hd")
        with open(os.path.join(self.args.golden, case["files"][0]["file"]), encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        decode = case["id"].endswith("decode")
        words = ["tokenize", "-m", model, "--kind", "bert" if "bert" in case["id"] else "lm"]
        words += ["--decode"] if decode else ["--allow-special"]
        key, want = ("ids", "text") if decode else ("text", "ids")
        out = self.ivchat(*words, text="".join(json.dumps(r[key]) + "\n" for r in rows))
        got = [json.loads(line) for line in out.splitlines()]
        same = sum(a == r[want] for a, r in zip(got, rows))
        self.table.row(case["id"], "cli rows", same == len(rows) == len(got), f"{same} of {len(rows)} rows equal")

    def run(self):
        for case in self.cases:
            name = case["id"]
            if self.args.only not in name:
                continue
            try:
                if case["inputs"].get("dtype") == "float32":
                    self.chat(case)
                elif name.startswith("tokenizer/"):
                    self.tokenizer(case)
                elif name.startswith("media/") and name != "media/yoga_frames":
                    self.pixels(case)
            except (RuntimeError, ValueError, KeyError, OSError) as e:
                self.table.row(name, "cli", False, str(e))
        return self.table


def main():
    shared = os.path.join(ROOT, "..", "shared")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--golden", default=os.path.join(shared, "golden"))
    parser.add_argument("--data", default=os.path.join(shared, "data"))
    parser.add_argument("--only", default="", help="part of the case ids to run")
    parser.add_argument("--cpu", help="kernel tier of the library's part")
    args = parser.parse_args()
    args.program = os.path.abspath(os.path.join(args.build, "ivchat"))
    if not os.path.isdir(args.golden):
        print("SKIP no golden data beside the project")
        return 0
    table = Runner(args).run()
    words = [os.path.join(args.build, "tests", "parity")]
    words += (["--only", args.only] if args.only else []) + (["--cpu", args.cpu] if args.cpu else [])
    library = subprocess.run([*words, args.golden, args.data], stdout=subprocess.PIPE, text=True, check=False)
    lines = library.stdout.splitlines()
    print("\n".join(lines[:-1]))
    counts = re.fullmatch(r"(\d+) equal, (\d+) different", lines[-1] if lines else "")
    equal, different = (int(counts.group(1)), int(counts.group(2))) if counts else (0, 1)
    print(f"{table.equal + equal} equal, {table.different + different} different")
    return 1 if table.different + different else 0


if __name__ == "__main__":
    sys.exit(main())

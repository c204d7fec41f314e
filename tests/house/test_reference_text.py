# SPDX-License-Identifier: MIT
"""tools/reference_text.py, which needs no PyTorch: the golden tokenizer and prompt rows, and random strings against `ivchat tokenize`
on the fixture model. InternLM2 needs the sentencepiece module. The model itself: `make parity-reference`."""
import importlib.util
import json
import os
import random
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEBIAN = "/usr/bin/python3"  # `make deps` installs sentencepiece for this one
if not importlib.util.find_spec("sentencepiece") and os.path.exists(DEBIAN) and "again" not in sys.argv:
    if subprocess.run([DEBIAN, "-c", "import sentencepiece"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        os.execv(DEBIAN, [DEBIAN, os.path.abspath(__file__), "again"])
sys.path[:0] = [os.path.join(ROOT, "tests"), os.path.join(ROOT, "tools")]
import reference_rows  # noqa: E402
import reference_sizes  # noqa: E402
import reference_text  # noqa: E402
import tap  # noqa: E402

IVCHAT = os.environ.get("IVCHAT")
SHARED = os.environ.get("IVCHAT_TEST_SHARED", os.path.join(ROOT, "..", "shared"))
GOLDEN = os.path.join(SHARED, "golden")
FIXTURE = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
CASES = ["tokenizer/mistral_encode", "tokenizer/mistral_decode", "tokenizer/bert_encode", "tokenizer/internlm2_encode",
         "tokenizer/internlm2_decode", "prompt/hd", "prompt/8b", "prompt/internlm"]


def golden(report):
    if not os.path.isdir(GOLDEN):
        for name in CASES:
            report.skip(name, "no golden data beside the checkout")
        return
    with open(os.path.join(GOLDEN, "manifest.json"), encoding="utf-8") as f:
        cases = {c["id"]: c for c in json.load(f)["cases"]}
    for name in CASES:
        internlm = "internlm" in name
        if internlm and not importlib.util.find_spec("sentencepiece"):
            report.skip(name, "no Python module sentencepiece")
            continue
        n, bad = reference_rows.different(GOLDEN, cases[name], os.path.join(GOLDEN, "tiny-internlm" if internlm else "tiny-hd"))
        report.ok(n > 20 and not bad, "%s: %d rows" % (name, n), "\n".join(bad[:5]))


def config(name, **more):
    return {"_name_or_path": name, "model_config": {"vision_encoder": {"d_model": 176, **more}, "bridge": {"num_query_token": 32, "extra_num_query_token": 64},
                                                    "llm": {"name": "mistral_7b"}}}


def frames(report):
    internlm = config("x-hd-f16")
    internlm["model_config"]["llm"]["name"] = "internlm2_5_7b"
    cases = [  # as src/model/variant.c: folder, config, variant, frames
        ("m", config("ivchat-small-hd-f16"), None, 16), ("m", config("InternVideo2_chat_8B_HD_F16"), None, 16), ("m", config("x-HDF16"), None, 16),
        ("m", config("InternVideo2-Chat-8B-HD"), None, 8), ("m", config("model-bf16"), None, 8), ("m", config("f160"), None, 8), ("m", config(None), None, 8),
        ("a/8B-HD-F16", config("./"), None, 16), ("x_8b", config("8B-HD-F16"), None, 8), ("m/", config("", num_frames=16), None, 16),
        ("m", internlm, None, 8), ("m", config("x-f16"), "hd", 8), ("m", config("x-f16"), "8b", 8), ("m", config("x"), "f16", 16),
        ("m", config("x", num_frames=4), "hd", 4), ("m", config("x", num_frames=4), None, 4)]
    wrong = [c for c in cases if reference_sizes.frames_of(c[1], c[0], c[2]) != c[3]]
    report.ok(not wrong, "frames by names and variant", wrong)


def ivchat(rows, *options):
    done = subprocess.run([IVCHAT, "tokenize", "-m", FIXTURE, *options], input="".join(json.dumps(r) + "\n" for r in rows),
                          stdout=subprocess.PIPE, check=True, universal_newlines=True, encoding="utf-8")
    return [json.loads(line) for line in done.stdout.splitlines()]


def same(report, name, rows, got, want):
    bad = ["%r: %r, ivchat %r" % x for x in zip(rows, got, want) if x[1] != x[2]]
    report.ok(len(got) == len(want) and not bad, name, "\n".join(bad[:5]))


def random_strings(report):
    draw = random.Random(4)
    parts = ["the", "what", "video", " ", "  ", "\u2581", "step", "Describe", "[INST]", "[/INST]", "</s>", "<s>", "<unk>", ".", "\n", "\t", "é", "漢字",
             "\U0001f644", "e\u0301", "'s", "(A)", "1", "[DEC]", "[SEP]", "\u00ad", "\u3000", "İ"]
    texts = ["".join(draw.choices(parts, k=draw.randrange(12))) for _ in range(400)]
    tokenizer, bert = reference_text.open_tokenizer(FIXTURE, "mistral"), reference_text.open_bert(FIXTURE)
    same(report, "400 random texts to ids as ivchat", texts, [tokenizer.encode(t) for t in texts], ivchat(texts, "--allow-special"))
    same(report, "400 random texts to WordPiece ids as ivchat", texts, [bert.encode(t) for t in texts],
         ivchat(texts, "--kind", "bert", "--allow-special"))
    ids = [[draw.choice((draw.randrange(261), draw.randrange(8), draw.randrange(524))) for _ in range(draw.randrange(10))] for _ in range(400)]
    same(report, "400 random id lists to text as ivchat", ids, [tokenizer.decode(i) for i in ids], ivchat(ids, "--decode"))


def main():
    report = tap.Report()
    report.ok("torch" not in sys.modules and "numpy" not in sys.modules, "neither PyTorch nor numpy is needed")
    frames(report)
    golden(report)
    if IVCHAT:
        random_strings(report)
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

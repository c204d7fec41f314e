#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat quantize --report`, `--imatrix` and `--imatrix-out` on the shipped model: what is told, that an importance matrix
lowers the error that it weighs, lists of media, and what is refused."""
import json
import os
import struct

from program import ROOT, Tap, make_image, path, run

tap = Tap()
SMALL = os.path.join(ROOT, "models", "ivchat-small")
TINY = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
DST = path("gguf")
MATRIX = path("small.imatrix")
LIST = path("list.jsonl")
picture = make_image()
with open(LIST, "w", encoding="utf-8") as f:
    f.write('# a comment\n\n{"image": "%s", "prompt": "What is it?"}\n' % os.path.basename(picture))
    f.write('{"turns": [{"q": "Which colour is the sky?"}], "id": 7}\n%s\n' % picture)
if os.path.dirname(picture) != os.path.dirname(LIST):
    os.symlink(picture, os.path.join(os.path.dirname(LIST), os.path.basename(picture)))
ASKED = ["--media", LIST, "-p", "What does it show?", "-n", "6", "--dtype", "f32"]


def tensors(r):
    return {t["name"]: t for t in json.loads(r.out)["tensors"]} if r.code == 0 else {}


r = run("quantize", SMALL, "--imatrix-out", MATRIX, *ASKED)
tap.ok(r.code == 0 and r.out == "" and os.path.getsize(MATRIX) > 10000 and not os.path.exists(DST), "--imatrix-out without DST", r)

plain = run("quantize", SMALL, DST, "--type", "Q4_0", "--vision-type", "Q4_0", "--report", "--json", "-q", *ASKED)
weighed = run("quantize", SMALL, DST, "--type", "Q4_0", "--vision-type", "Q4_0", "--report", "--json", "-q", "--imatrix", MATRIX, *ASKED)
a, b = tensors(plain), tensors(weighed)
told = json.loads(plain.out) if plain.code == 0 else {}
tap.ok(a and a.keys() == b.keys() and {t["file"] for t in a.values()} == {"language", "vision"}, "both files' tensors are told", plain)
up = a.get("blk.0.ffn_up.weight", {})
tap.ok(up.get("type") == "Q4_0" and 0.02 < up["relative_rms"] < 0.2 and 0.98 < up["cosine"] < 1 and up["rows"] == 512, "figures of a Q4_0 matrix", up)
norm = a.get("output_norm.weight", {})
tap.ok(norm.get("type") == "F32" and norm["relative_rms"] == 0 and norm["cosine"] == 1, "an F32 vector is exact", norm)
weights = {n for n, t in b.items() if t["weighted"]}
tap.ok(not any(t["weighted"] for t in a.values()) and "blk.3.ffn_down.weight" in weights and "output.weight" in weights
       and "project_up.weight" in weights and any(n.startswith("qformer.") for n in weights)
       and "token_embd.weight" not in weights, "weighted: what was multiplied by and has blocks (rows of 176 have none)", sorted(weights))
logits = told.get("logits", {})
tap.ok(logits.get("questions") == 3 and logits["tokens"] >= 3 and 0 < logits["kl_mean"] < 0.2 and logits["kl_mean"] <= logits["kl_max"]
       and 0.5 < logits["top1"] <= 1 and 0.9 < logits["cosine"] < 1, "logits beside the source's", logits)
r = run("quantize", SMALL, DST, "--type", "F32", "--report", "--json", "-q", "-p", "What is it?", "-n", "4", "--dtype", "f32")
same = json.loads(r.out).get("logits", {}) if r.code == 0 else {}
tap.ok(same.get("kl_max", 1) < 1e-9 and same["top1"] == 1 and same["same_answers"] == 1, "F32 is the source: no distance", r)
r = run("quantize", SMALL, DST, "--type", "Q8_0", "--report")
tap.ok(r.code == 0 and "rms error" in r.out and "blk.0.attn_q.weight" in r.out and "logits" not in r.out, "as text, without questions", r)

# ---- the older form of importance matrices
older = path("older.dat")
with open(older, "wb") as f:
    name = b"blk.0.ffn_up.weight"
    f.write(struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 1, 192) + struct.pack("<192f", *range(192)) + struct.pack("<ii", 1, 0))
r = run("quantize", SMALL, DST, "--type", "Q4_0", "--imatrix", older, "--report", "--json", "-q")
tap.ok({n for n, t in tensors(r).items() if t["weighted"]} == {"blk.0.ffn_up.weight"}, "a .dat of one matrix weighs that one", r)

# ---- refused
with open(path("bad.jsonl"), "w", encoding="utf-8") as f:
    f.write('{"video": "x.mp4"}\n')
with open(path("empty.jsonl"), "w", encoding="utf-8"):
    pass
for args, code, text in (
        ([SMALL], 2, "no folder to write to"),
        ([SMALL, "--imatrix-out", path("x")], 2, "--media or --prompt"),
        ([SMALL, DST, "-p", "x"], 2, "only with --imatrix-out or --report"),
        ([SMALL, DST, "--imatrix", MATRIX, "--imatrix-out", MATRIX, "-p", "x"], 2, "give one of them"),
        ([SMALL, DST, "--report", "--format", "safetensors"], 2, "only with --format gguf"),
        ([SMALL, DST, "--format", "safetensors", "--imatrix", MATRIX], 2, "no importance matrix"),
        ([SMALL, DST, "--report", "--media", path("bad.jsonl")], 2, 'line 1: no "prompt"'),
        ([SMALL, DST, "--report", "--media", path("empty.jsonl")], 2, "a list of nothing"),
        ([SMALL, DST, "--report", "--media", path("absent.jsonl")], 1, "absent.jsonl"),
        ([SMALL, DST, "--imatrix", path("absent")], 3, "absent"),
        ([SMALL, DST, "--imatrix", LIST], 3, "no importance matrix"),
        ([SMALL, DST, "--imatrix", os.path.join(DST, "ivchat-small-Q8_0.gguf")], 3, "expected imatrix"),
        ([TINY, DST, "--imatrix", MATRIX], 3, "has 192 inputs, the model's has"),
        ([os.path.join(DST, "ivchat-small-Q8_0.gguf"), "--imatrix-out", path("x"), "-p", "x"], 3, "unquantised model's folder")):
    r = run("quantize", *args)
    tap.ok(r.code == code and text in r.err and r.out == "", "refused: " + text, r)
tap.done()

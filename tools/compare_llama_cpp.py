#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares ivchat with llama.cpp on GGUF language files: ids of texts, logits of a prompt, greedy answers.

  tools/compare_llama_cpp.py FILE.gguf... [--ivchat build/ivchat] [--texts FILE] [--new 24] [--dtype f32] [--exact]

Needs numpy and llama-cpp-python (0.3.36). --texts: one JSON string a line. --exact also needs the package gguf: a copy of
the file with every tensor as f32 says what the stored weights come to when nothing else is rounded, and each
program's cosine with that is told (llama.cpp's with quantised weights differs, for it rounds activations to 8 bits);
answers and the limit below then go by llama.cpp on that copy. Per file one line:

  texts equal, of how many; worst cosine of the logits; greedy tokens equal, and where they part the distance of
  the two best scores of llama.cpp (a tie parts them rightly)

Exit status 1 when ids differ, a cosine is below 0.9999 or answers part above --tie.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import Llama

PROMPTS = ["What happens here?", "Describe the action step by step.", "1 2 3 4", "Wie geht es dir?", "你好，世界"]


def ask(args, path, prompt, folder):
    done = subprocess.run([args.ivchat, "chat", "-m", path, "-p", prompt, "-n", str(args.new), "--dtype", args.dtype, "--json",
                           "--quiet", "--ignore-eos", "--dump", folder], capture_output=True, check=True)
    return (np.load(os.path.join(folder, "input_ids.npy")).reshape(-1),
            np.load(os.path.join(folder, "logits.npy")).reshape(-1), json.loads(done.stdout)["token_ids"])


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def tokenize(args, path, texts):
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    done = subprocess.run([args.ivchat, "tokenize", "-m", path], input=lines.encode(), capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def widen(path, out):
    """A copy of a GGUF file with every tensor as F32."""
    import gguf
    reader = gguf.GGUFReader(path)
    tensors = reader.tensors
    with open(path, "rb") as f:
        head = f.read(min(t.field.offset for t in tensors))
    infos, at = b"", 0
    for t in tensors:
        name = t.name.encode()
        infos += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(t.shape))
        infos += b"".join(struct.pack("<Q", int(d)) for d in t.shape) + struct.pack("<IQ", 0, at)
        at += -(-int(np.prod(t.shape)) * 4 // 32) * 32
    with open(out, "wb") as f:
        f.write(head + infos)
        f.write(b"\0" * (-f.tell() % 32))
        for t in tensors:
            f.write(gguf.dequantize(t.data, t.tensor_type).astype(np.float32).tobytes())
            f.write(b"\0" * (-f.tell() % 32))


def open_peer(path):
    return Llama(model_path=path, n_ctx=512, n_batch=512, n_threads=2, n_gpu_layers=0, logits_all=True, verbose=False)


def exact_copy(path, folder):
    copy = os.path.join(folder, "exact.gguf")
    widen(path, copy)
    return open_peer(copy)


def compare(args, path, texts):
    with tempfile.TemporaryDirectory() as folder:
        peer = open_peer(path)
        return compare_with(args, path, texts, peer, exact_copy(path, folder) if args.exact else peer)


def compare_with(args, path, texts, quantised, llm):
    worst_peer = 1.0
    good = True
    equal = 0
    for text, own in zip(texts, tokenize(args, path, texts)):
        peer = llm.tokenize(text.encode(), add_bos=True, special=False)
        equal += own == peer
        if own != peer and args.verbose:
            print("  %r: ours %s, theirs %s" % (text, own, peer))
    worst, same, all_tokens, parted = 1.0, 0, 0, []
    ends = {2, 92542} if llm.n_vocab() == 92544 else {llm.token_eos()}
    for prompt in PROMPTS:
        with tempfile.TemporaryDirectory() as folder:
            ids, logits, answer = ask(args, path, prompt, folder)
        llm.reset()
        llm.eval(ids.tolist())
        exact = np.array(llm.scores[llm.n_tokens - 1])
        worst = min(worst, cosine(exact, logits))
        if args.exact:
            quantised.reset()
            quantised.eval(ids.tolist())
            worst_peer = min(worst_peer, cosine(exact, np.array(quantised.scores[quantised.n_tokens - 1])))
        all_tokens += len(answer)
        for at, token in enumerate(answer):
            scores = np.array(llm.scores[llm.n_tokens - 1])
            best = int(np.argmax(scores))
            if best in ends:  # left out by --ignore-eos, and rightly so by llama.cpp
                all_tokens -= len(answer) - at
                break
            if best != token:
                parted.append(float(scores[best] - scores[token]))
                break
            same += 1
            llm.eval([token])
    good = equal == len(texts) and worst >= 0.9999 and all(p <= args.tie for p in parted)
    exact = " (llama.cpp's %.7f)" % worst_peer if args.exact else ""
    print("%-32s %s texts %d/%d  cosine %.7f%s  greedy %d/%d%s" % (
        os.path.basename(path), args.dtype, equal, len(texts), worst, exact, same, all_tokens,
        "  parted at margins " + " ".join("%.4f" % p for p in parted) if parted else ""))
    sys.stdout.flush()
    return good


def main():
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+")
    p.add_argument("--ivchat", default="build/ivchat")
    p.add_argument("--texts")
    p.add_argument("--new", type=int, default=24)
    p.add_argument("--dtype", default="f32")
    p.add_argument("--tie", type=float, default=0.02)
    p.add_argument("--exact", action="store_true")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    texts = PROMPTS
    if args.texts:
        with open(args.texts, encoding="utf-8") as f:
            texts = [json.loads(line) for line in f]
    good = [compare(args, path, texts) for path in args.files]
    sys.exit(0 if all(good) else 1)


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/fixtures/tiny-model: a random model of the HD release's layout, small enough to commit.

  tools/make_tiny_model.py OUT

Its tokenizers are made here: a byte-fallback BPE over ASCII with a few words, and a WordPiece list of
characters. The weights come from tools/random_checkpoint.py (seed 5). The model says nothing sensible: it is
for tests that need a model and not its answers.
"""
import json
import os
import subprocess
import sys

WORDS = ["the", "what", "video", "image", "describe", "step", "action", "is", "she", "in", "happens"]
HERE = os.path.dirname(os.path.abspath(__file__))


def tokenizer():
    """tokenizer.json in the form of the release's: special tokens, bytes, characters, merges."""
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    pieces = special + ["<0x%02X>" % i for i in range(256)] + ["▁"] + [chr(c) for c in range(33, 127)]
    merges = []
    for word in WORDS + [w.capitalize() for w in WORDS]:
        for text in ("▁" + word, word):
            left = text[0]
            for char in text[1:]:
                if left + char not in pieces:
                    pieces.append(left + char)
                    merges.append(f"{left} {char}")
                left += char
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, s in enumerate(special)],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
                  "vocab": {p: i for i, p in enumerate(pieces)}, "merges": merges},
    }


def wordpiece():
    chars = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + chars + ["##" + c for c in chars if c.isalnum()] + WORDS


def main():
    out = sys.argv[1]
    bpe, words = tokenizer(), wordpiece()
    size = len(bpe["model"]["vocab"])
    subprocess.run([sys.executable, os.path.join(HERE, "random_checkpoint.py"), "--preset", "tiny", "--seed", "5",
                    "--dtype", "BF16", "--frames", "2", "--vit-d", "32", "--vit-heads", "2", "--vit-ffn", "64",
                    "--qf-pos", "64", "--qf-vocab", str(len(words)), "--llm-vocab", str(size), "--llm-layers", "2",
                    out], check=True)
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(bpe, f, ensure_ascii=False, indent=0)
    with open(os.path.join(out, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(words) + "\n")


if __name__ == "__main__":
    main()

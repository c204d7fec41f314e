#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a seeded random checkpoint of InternVideo2-Chat in the release's layout, of any size.

  tools/random_checkpoint.py --preset release OUT [--tokenizer DIR]     19.4 GB, 4 shards, 1590 tensors
  tools/random_checkpoint.py --preset internlm OUT                      InternLM2.5 names and sizes
  tools/random_checkpoint.py --preset tiny OUT --llm-vocab 32768        any size by options
  tools/random_checkpoint.py --preset release --dry-run                 one line per tensor, no file

Names, shapes, dtypes and shard boundaries are those of the releases: the language model's own weights
BF16, LoRA, vision encoder, Q-Former and bridge F32, position_ids I64; shards are filled in state order up
to --max-shard bytes; inside a file tensors stand by element size, then by name, as the format's own
library writes them. config.json has the release's keys; sizes that differ from the release's are stated
by the extension keys (depth, num_heads, mlp_ratio, qformer_config, llm_config).

The values are normal, scaled so that activations stay of order one: linear layers 1/sqrt(d_in), norms
near 1, LayerScale near 0.1, LoRA's product a third of its layer, the head 3/sqrt(d) so that the best
token stands out. For speed they are not all drawn: one block of 16 777 213 normals (a prime, so that no
row of a matrix repeats) is read cyclically from a place that depends on seed and tensor name. The tool
needs numpy and less than 1 GB of memory, whatever the size. --jobs N writes N shards at a time, the same
bytes; with a smaller --max-shard there is work for all (16 jobs and 500000000: seconds on a memory disk).
"""
import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import shutil
import struct
import sys

try:
    import numpy as np
except ImportError:  # --dry-run works without
    np = None

BLOCK = 16777213
CACHED = 4  # scaled copies of the block kept: 4 x 64 MiB at most
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                   "vocab.txt")
ITEM = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}

# option -> (release, tiny, meaning)
SIZES = {
    "vit-d": (1408, 44, "width of the vision encoder"),
    "vit-heads": (16, 2, "its heads"),
    "vit-depth": (40, 3, "its nominal depth; one block less is built"),
    "vit-ffn": (6144, 192, "hidden size of its blocks"),
    "frames": (8, 8, "frames that pos_embed is for"),
    "qf-d": (768, 32, "width of the Q-Former"),
    "qf-heads": (12, 2, "its heads"),
    "qf-layers": (12, 2, "its layers"),
    "qf-ffn": (3072, 96, "its hidden size"),
    "qf-vocab": (30522, 500, "words; the table has one row more"),
    "qf-pos": (512, 512, "its positions"),
    "queries": (32, 32, "learned queries"),
    "extra-queries": (64, 64, "further learned queries"),
    "llm-d": (4096, 64, "width of the language model"),
    "llm-layers": (32, 2, "its layers"),
    "llm-heads": (32, 4, "its query heads"),
    "llm-kv": (8, 2, "its key/value heads"),
    "llm-head-dim": (128, 16, "width of a head"),
    "llm-ffn": (14336, 160, "its hidden size"),
    "llm-vocab": (None, 512, "its vocabulary; by the kind of model: 32768 or 92544"),
    "lora-r": (16, 16, "LoRA rank"),
}
LLM_FACTS = {
    "mistral": {"name": "mistral_7b", "base": "mistralai/Mistral-7B-Instruct-v0.3", "vocab": 32768,
                "theta": 1e6, "ctx": 32768, "eos": 2, "more": {"sliding_window": None}},
    "internlm2": {"name": "internlm2_5_7b", "base": "internlm/internlm2_5-7b-chat-1m", "vocab": 92544,
                  "theta": 5e7, "ctx": 262144, "eos": [2, 92542],
                  "more": {"bias": False, "rope_scaling": {"type": "dynamic", "factor": 2.5}}},
}

# std and mean of the values; "ids" = 0, 1, 2, ...
Tensor = collections.namedtuple("Tensor", "name dtype shape std mean")


def count(shape):
    n = 1
    for d in shape:
        n *= d
    return n


def nbytes(t):
    return count(t.shape) * ITEM[t.dtype]


class Model:
    """All tensors of a checkpoint in state order."""

    def __init__(self, size, kind, wide, llm, lora, base_layer):
        self.s = size
        self.kind = kind
        self.wide = wide  # dtype of vision, Q-Former, bridge and LoRA
        self.llm = llm    # dtype of the language model's own weights
        self.lora = lora  # set of module names, or None = all
        self.base_layer = base_layer
        self.list = []
        self.top()

    def add(self, name, shape, std, mean=0.0, dtype=None):
        self.list.append(Tensor(name, dtype or self.wide, tuple(shape), std, mean))

    def linear(self, name, n_out, n_in, bias=True):
        self.add(name + ".weight", (n_out, n_in), n_in ** -0.5)
        if bias:
            self.add(name + ".bias", (n_out,), 0.02)

    def norm(self, name, d):
        self.add(name + ".weight", (d,), 0.1, 1.0)
        self.add(name + ".bias", (d,), 0.02)

    def lora_linear(self, name, n_out, n_in, gain=1.0):
        wrapped = self.lora is None or name.rsplit(".", 1)[-1] in self.lora
        if self.kind == "internlm2" and name.endswith(".output") and self.lora is None:
            wrapped = False
        spelling = ".base_layer.weight" if wrapped and self.base_layer else ".weight"
        self.add(name + spelling, (n_out, n_in), gain * n_in ** -0.5, dtype=self.llm)
        if wrapped:
            r = self.s["lora-r"]
            self.add(name + ".lora_A.default.weight", (r, n_in), n_in ** -0.5)
            # alpha / r = 2
            self.add(name + ".lora_B.default.weight", (n_out, r), gain * 0.15 * r ** -0.5)

    def top(self):
        s = self.s
        self.add("query_tokens", (1, s["queries"], s["qf-d"]), 1.0)
        self.add("extra_query_tokens", (1, s["extra-queries"], s["qf-d"]), 1.0)
        self.vision()
        self.norm("vision_layernorm", s["vit-d"])
        self.mistral() if self.kind == "mistral" else self.internlm2()
        self.linear("project_up", s["llm-d"], s["qf-d"])
        self.linear("project_down", s["qf-d"], s["llm-d"])
        self.qformer()

    def vision(self):
        s, p = self.s, "vision_encoder."
        d = s["vit-d"]
        self.add(p + "cls_token", (1, 1, d), 0.5)
        self.add(p + "pos_embed", (1, 1 + 256 * s["frames"], d), 0.5)
        self.add(p + "img_pos_embed", (1, 257, d), 0.5)
        self.add(p + "patch_embed.proj.weight", (d, 3, 1, 14, 14), (3 * 14 * 14) ** -0.5)
        self.add(p + "patch_embed.proj.bias", (d,), 0.02)
        for i in range(s["vit-depth"] - 1):
            b = "%sblocks.%d." % (p, i)
            self.add(b + "norm1.weight", (d,), 0.1, 1.0)
            self.linear(b + "attn.qkv", 3 * d, d, bias=False)
            self.linear(b + "attn.proj", d, d)
            self.add(b + "attn.q_norm.weight", (d,), 0.1, 1.0)
            self.add(b + "attn.k_norm.weight", (d,), 0.1, 1.0)
            self.add(b + "ls1", (d,), 0.02, 0.1)
            self.add(b + "norm2.weight", (d,), 0.1, 1.0)
            self.linear(b + "mlp.fc1", s["vit-ffn"], d)
            self.linear(b + "mlp.fc2", d, s["vit-ffn"])
            self.add(b + "ls2", (d,), 0.02, 0.1)

    def mistral(self):
        s, p = self.s, "lm.base_model.model."
        d, head = s["llm-d"], s["llm-head-dim"]
        self.add(p + "model.embed_tokens.weight", (s["llm-vocab"], d), 1.0, dtype=self.llm)
        for i in range(s["llm-layers"]):
            b = "%smodel.layers.%d." % (p, i)
            self.lora_linear(b + "self_attn.q_proj", s["llm-heads"] * head, d)
            self.lora_linear(b + "self_attn.k_proj", s["llm-kv"] * head, d)
            self.lora_linear(b + "self_attn.v_proj", s["llm-kv"] * head, d)
            self.lora_linear(b + "self_attn.o_proj", d, s["llm-heads"] * head)
            self.lora_linear(b + "mlp.gate_proj", s["llm-ffn"], d)
            self.lora_linear(b + "mlp.up_proj", s["llm-ffn"], d)
            self.lora_linear(b + "mlp.down_proj", d, s["llm-ffn"])
            self.add(b + "input_layernorm.weight", (d,), 0.1, 1.0, self.llm)
            self.add(b + "post_attention_layernorm.weight", (d,), 0.1, 1.0, self.llm)
        self.add(p + "model.norm.weight", (d,), 0.1, 1.0, self.llm)
        self.lora_linear(p + "lm_head", s["llm-vocab"], d, gain=3.0)

    def internlm2(self):
        s, p = self.s, "lm.base_model.model."
        d, head = s["llm-d"], s["llm-head-dim"]
        self.add(p + "model.tok_embeddings.weight", (s["llm-vocab"], d), 1.0, dtype=self.llm)
        for i in range(s["llm-layers"]):
            b = "%smodel.layers.%d." % (p, i)
            self.lora_linear(b + "attention.wqkv", (s["llm-heads"] + 2 * s["llm-kv"]) * head, d)
            self.lora_linear(b + "attention.wo", d, s["llm-heads"] * head)
            self.lora_linear(b + "feed_forward.w1", s["llm-ffn"], d)
            self.lora_linear(b + "feed_forward.w3", s["llm-ffn"], d)
            self.lora_linear(b + "feed_forward.w2", d, s["llm-ffn"])
            self.add(b + "attention_norm.weight", (d,), 0.1, 1.0, self.llm)
            self.add(b + "ffn_norm.weight", (d,), 0.1, 1.0, self.llm)
        self.add(p + "model.norm.weight", (d,), 0.1, 1.0, self.llm)
        self.lora_linear(p + "output", s["llm-vocab"], d, gain=3.0)

    def qformer(self):
        s, p = self.s, "qformer.bert."
        d = s["qf-d"]
        self.add(p + "embeddings.position_ids", (1, s["qf-pos"]), None, dtype="I64")
        self.add(p + "embeddings.word_embeddings.weight", (s["qf-vocab"] + 1, d), 1.0)
        self.add(p + "embeddings.position_embeddings.weight", (s["qf-pos"], d), 0.3)
        self.norm(p + "embeddings.LayerNorm", d)
        for i in range(s["qf-layers"]):
            b = "%sencoder.layer.%d." % (p, i)
            for kind in ["attention"] + (["crossattention"] if i % 2 == 0 else []):
                n_kv = d if kind == "attention" else s["vit-d"]
                self.linear(b + kind + ".self.query", d, d)
                self.linear(b + kind + ".self.key", d, n_kv)
                self.linear(b + kind + ".self.value", d, n_kv)
                self.linear(b + kind + ".output.dense", d, d)
                self.norm(b + kind + ".output.LayerNorm", d)
            for tail in ("", "_query"):
                self.linear(b + "intermediate" + tail + ".dense", s["qf-ffn"], d)
                self.linear(b + "output" + tail + ".dense", d, s["qf-ffn"])
                self.norm(b + "output" + tail + ".LayerNorm", d)


def shard(tensors, max_bytes):
    """Consecutive tensors together until the next would pass max_bytes."""
    shards, used = [[]], 0
    for t in tensors:
        if shards[-1] and used + nbytes(t) > max_bytes:
            shards.append([])
            used = 0
        shards[-1].append(t)
        used += nbytes(t)
    return shards


def file_names(n):
    if n == 1:
        return ["model.safetensors"]
    return ["model-%05d-of-%05d.safetensors" % (i + 1, n) for i in range(n)]


class Values:
    """Bytes of tensors, from one block of normal numbers."""

    def __init__(self, seed):
        self.seed = seed
        self.block = np.random.Generator(np.random.PCG64(seed)).standard_normal(BLOCK, dtype=np.float32)
        self.cache = collections.OrderedDict()

    @staticmethod
    def convert(x, dtype):
        """f32 -> dtype; x is used up."""
        if dtype == "F32":
            return x
        if dtype == "F16":
            return x.astype(np.float16)
        u = x.view(np.uint32)  # to the nearest, ties to even; there are no NaNs
        u += 0x7FFF + ((u >> 16) & 1)
        u >>= 16
        return u.astype(np.uint16)

    def scaled(self, t):
        """The whole block as t's dtype with t's spread."""
        key = (t.dtype, t.std, t.mean)
        if key not in self.cache:
            while len(self.cache) >= CACHED:
                self.cache.popitem(last=False)
            self.cache[key] = self.convert(self.block * np.float32(t.std) + np.float32(t.mean), t.dtype)
        self.cache.move_to_end(key)
        return self.cache[key]

    def write(self, t, out):
        n = count(t.shape)
        if t.std is None:
            out.write(np.arange(n, dtype=np.int64).data)
            return
        digest = hashlib.blake2b(("%d:%s" % (self.seed, t.name)).encode(), digest_size=8).digest()
        at = int.from_bytes(digest, "little") % BLOCK
        if n <= BLOCK // 16 and at + n <= BLOCK:  # not worth a scaled copy of the block
            x = self.block[at:at + n] * np.float32(t.std) + np.float32(t.mean)
            out.write(self.convert(x, t.dtype).data)
            return
        block = self.scaled(t)
        while n:
            k = min(n, BLOCK - at)
            out.write(block[at:at + k].data)
            n -= k
            at = (at + k) % BLOCK


def write_shard(path, tensors, values):
    tensors = sorted(tensors, key=lambda t: (-ITEM[t.dtype], t.dtype, t.name))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for t in tensors:
        header[t.name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, at + nbytes(t)]}
        at += nbytes(t)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb", buffering=0) as raw:
        with os.fdopen(os.dup(raw.fileno()), "wb", buffering=1 << 20) as out:
            out.write(struct.pack("<Q", len(text)))
            out.write(text)
            for t in tensors:
                values.write(t, out)
        if os.fstat(raw.fileno()).st_size != 8 + len(text) + at:
            raise OSError("%s: short write" % path)
    os.replace(path + ".part", path)


def write_shards(folder, names, shards, values, jobs):
    """Shard after shard, or jobs at a time: a tensor's values depend on its name alone."""
    def write_every(first):
        for name, tensors in list(zip(names, shards))[first::jobs]:
            write_shard(os.path.join(folder, name), tensors, values)
            print("%s: %d tensors, %d bytes" % (name, len(tensors), sum(map(nbytes, tensors))), file=sys.stderr)

    if jobs == 1:
        write_every(0)
        return
    fork = multiprocessing.get_context("fork")  # the block of values is shared
    workers = [fork.Process(target=write_every, args=(i,)) for i in range(min(jobs, len(names)))]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    if any(w.exitcode for w in workers):
        sys.exit("random_checkpoint: %s is not complete" % folder)


def config(size, kind, preset, lora):
    facts = LLM_FACTS[kind]
    vision = {
        "checkpoint_num": 48, "d_model": size["vit-d"], "encoder_embed_dim": size["vit-d"], "img_size": 224,
        "name": "internvideo2-1B", "num_frames": size["frames"], "origin_num_frames": 4, "patch_size": 14,
        "pretrained": None, "sep_image_video_pos_embed": True, "tubelet_size": 1, "use_checkpoint": True,
        "vit_add_ln": True, "x_vis_only": True, "x_vis_return_idx": -2,
    }
    model = {
        "bridge": {"extra_num_query_token": size["extra-queries"], "name": "qformer",
                   "num_query_token": size["queries"], "qformer_attention_probs_dropout_prob": 0.1,
                   "qformer_drop_path_rate": 0.2, "qformer_hidden_dropout_prob": 0.1},
        "freeze_bridge": False, "freeze_llm": False, "freeze_vision_encoder": False,
        "llm": {"lora_alpha": 2 * size["lora-r"], "lora_dropout": 0.1, "lora_r": size["lora-r"],
                "name": facts["name"], "pretrained_llm_path": facts["base"], "use_lora": lora},
        "loss": {"use_vision_regression_loss": False}, "pretrained_paths": {}, "use_flash_attention": True,
        "vision_encoder": vision,
    }
    if size != preset_sizes("release", kind) or preset == "tiny":
        # the smallest ratio that truncates to the wanted size and not below it
        ratio = size["vit-ffn"] / size["vit-d"]
        while int(size["vit-d"] * ratio) < size["vit-ffn"]:
            ratio = ratio * (1 + 2 ** -52)
        vision.update(depth=size["vit-depth"], num_heads=size["vit-heads"], mlp_ratio=ratio)
        model["qformer_config"] = {
            "model_type": "bert", "vocab_size": size["qf-vocab"], "hidden_size": size["qf-d"],
            "num_hidden_layers": size["qf-layers"], "num_attention_heads": size["qf-heads"],
            "intermediate_size": size["qf-ffn"], "hidden_act": "gelu",
            "max_position_embeddings": size["qf-pos"], "layer_norm_eps": 1e-12, "pad_token_id": 0,
            "type_vocab_size": 2, "encoder_width": size["vit-d"], "cross_attention_freq": 2,
        }
        eos = [i for i in ([facts["eos"]] if kind == "mistral" else facts["eos"]) if i < size["llm-vocab"]]
        model["llm_config"] = {
            "model_type": kind, "hidden_size": size["llm-d"], "intermediate_size": size["llm-ffn"],
            "num_hidden_layers": size["llm-layers"], "num_attention_heads": size["llm-heads"],
            "num_key_value_heads": size["llm-kv"], "head_dim": size["llm-head-dim"],
            "vocab_size": size["llm-vocab"], "rope_theta": facts["theta"], "rms_norm_eps": 1e-5,
            "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": eos if len(eos) > 1 else eos[0],
            "tie_word_embeddings": False, "max_position_embeddings": facts["ctx"], **facts["more"],
        }
    return {
        "_name_or_path": "./", "model_cls": "InternVideo2_VideoChat2",
        "architectures": ["InternVideo2_VideoChat2"],
        "auto_map": {"AutoConfig": "model_config.VideoChat2Config",
                     "AutoModel": "modeling_videochat2.InternVideo2_VideoChat2"},
        "model_config": model, "torch_dtype": "float32", "transformers_version": "4.38.0", "use_cache": True,
    }


def preset_sizes(preset, kind):
    size = {k: (tiny if preset == "tiny" else release) for k, (release, tiny, _) in SIZES.items()}
    if size["llm-vocab"] is None:
        size["llm-vocab"] = LLM_FACTS[kind]["vocab"]
    return size


def check_sizes(s):
    if s["llm-vocab"] < 3:
        return "--llm-vocab: the ids 0, 1, 2 are needed"
    for a, b in (("vit-d", "vit-heads"), ("qf-d", "qf-heads"), ("llm-heads", "llm-kv")):
        if s[a] % s[b]:
            return "--%s %d is not divisible by --%s %d" % (a, s[a], b, s[b])
    if s["vit-depth"] < 2 or s["llm-head-dim"] % 2 or min(s.values()) < 1:
        return "sizes from 1, --vit-depth from 2, an even --llm-head-dim"
    return None


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", help="folder to make; must not hold a model yet")
    parser.add_argument("--preset", choices=("release", "internlm", "tiny"), default="tiny")
    parser.add_argument("--llm", choices=sorted(LLM_FACTS), help="kind of language model; by the preset")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=("F32", "F16", "BF16"), help="of every tensor; as the release")
    parser.add_argument("--lora", default="all", help="all, none, or module names such as q_proj,lm_head")
    parser.add_argument("--base-layer", action="store_true", help="peft's newer names of wrapped weights")
    parser.add_argument("--max-shard", type=int, default=5 * 10 ** 9, help="bytes")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="shards written at a time (1)")
    parser.add_argument("--tokenizer", metavar="DIR", help="copy the tokenizer's files from DIR")
    parser.add_argument("--dry-run", action="store_true", help="print name, file, dtype, shape, bytes")
    for name, (release, tiny, text) in SIZES.items():
        parser.add_argument("--" + name, type=int, metavar="N", help="%s (%s; tiny %s)" % (text, release, tiny))
    args = parser.parse_args()

    kind = args.llm or ("internlm2" if args.preset == "internlm" else "mistral")
    size = preset_sizes(args.preset, kind)
    for name in SIZES:
        given = getattr(args, name.replace("-", "_"))
        if given is not None:
            size[name] = given
    problem = check_sizes(size) or ("--jobs: at least 1" if args.jobs < 1 else None)
    if problem or (not args.out and not args.dry_run):
        parser.error(problem or "OUT is missing")
    lora = None if args.lora == "all" else set(args.lora.split(",")) - {"none"}
    model = Model(size, kind, args.dtype or "F32", args.dtype or "BF16", lora, args.base_layer)
    shards = shard(model.list, args.max_shard)
    names = file_names(len(shards))
    if args.dry_run:
        for name, tensors in zip(names, shards):
            for t in tensors:
                print(t.name, name, t.dtype, list(t.shape), nbytes(t), sep="\t")
        return 0
    if np is None:
        sys.exit("random_checkpoint: numpy is missing")

    os.makedirs(args.out, exist_ok=True)
    if any(f.endswith((".safetensors", ".index.json")) for f in os.listdir(args.out)):
        sys.exit("random_checkpoint: %s holds a model already" % args.out)
    values = Values(args.seed)
    write_shards(args.out, names, shards, values, args.jobs)
    if len(names) > 1:
        where = {t.name: name for name, tensors in zip(names, shards) for t in tensors}
        write_json(os.path.join(args.out, "model.safetensors.index.json"),
                   {"metadata": {"total_size": sum(map(nbytes, model.list))},
                    "weight_map": dict(sorted(where.items()))})
    write_json(os.path.join(args.out, "config.json"), config(size, kind, args.preset, lora is None or bool(lora)))
    if args.tokenizer:
        for name in TOKENIZER_FILES:
            source = os.path.join(args.tokenizer, name)
            if os.path.exists(source):
                shutil.copyfile(source, os.path.join(args.out, name))
    return 0


if __name__ == "__main__":
    sys.exit(main())

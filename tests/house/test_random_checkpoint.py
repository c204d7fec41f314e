#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/random_checkpoint.py: the release preset has the release's tensors, sizes and shards; what is
written is well-formed, reproducible and of sane values. TAP; needs numpy for the second half."""
import collections
import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "random_checkpoint.py")
SHARED = os.environ.get("IVCHAT_TEST_SHARED", os.path.join(ROOT, "..", "shared"))

# Counted from the release: file -> tensors, bytes of data
RELEASE = {
    "model-00001-of-00004.safetensors": (558, 4988156928),
    "model-00002-of-00004.safetensors": (258, 4974772224),
    "model-00003-of-00004.safetensors": (265, 4941725696),
    "model-00004-of-00004.safetensors": (509, 4484777984),
}
# group of names -> dtype, bytes
RELEASE_GROUPS = {
    "lm base": ("BF16", 14496047104), "lm lora": ("F32", 170131456), "vision_encoder": ("F32", 3955118080),
    "vision_layernorm": ("F32", 11264), "qformer": ("F32", 742640640), "position_ids": ("I64", 4096),
    "queries": ("F32", 294912), "project_up": ("F32", 12599296), "project_down": ("F32", 12585984),
}


class Skip(Exception):
    pass


def run(*args, status=0):
    done = subprocess.run([sys.executable, TOOL, *args], capture_output=True, text=True, check=False)
    assert done.returncode == status, "%s: status %d\n%s" % (args, done.returncode, done.stderr)
    return done


def dry(*args):
    rows = [line.split("\t") for line in run("--dry-run", *args).stdout.splitlines()]
    return [(name, file, dtype, json.loads(shape), int(size)) for name, file, dtype, shape, size in rows]


def group(name):
    if name.endswith("position_ids"):
        return "position_ids"
    if name.startswith("lm."):
        return "lm lora" if ".lora_" in name else "lm base"
    return "queries" if name.endswith("query_tokens") else name.split(".")[0]


def release_sizes():
    files, groups = collections.defaultdict(lambda: [0, 0]), collections.defaultdict(int)
    dtypes = collections.defaultdict(set)
    for name, file, dtype, _, size in dry("--preset", "release"):
        files[file][0] += 1
        files[file][1] += size
        groups[group(name)] += size
        dtypes[group(name)].add(dtype)
    assert {k: tuple(v) for k, v in files.items()} == RELEASE, dict(files)
    assert {k: (dtypes[k].pop(), v) for k, v in groups.items()} == RELEASE_GROUPS, dict(groups)
    assert sum(groups.values()) == 19389432832


def release_names():
    path = os.path.join(SHARED, "data", "upstream", "model.safetensors.index.json")
    if not os.path.exists(path):
        raise Skip("no release index beside the checkout")
    with open(path, encoding="utf-8") as f:
        index = json.load(f)
    made = {name: file for name, file, *_ in dry("--preset", "release")}
    assert made == index["weight_map"], set(made.items()) ^ set(index["weight_map"].items())


def golden_shapes():
    """The same sizes as a golden checkpoint give the same names, shapes and dtypes."""
    folder = os.path.join(SHARED, "golden", "tiny-hd")
    if not os.path.isdir(folder):
        raise Skip("no golden data beside the checkout")
    made = dry("--vit-d", "176", "--vit-depth", "5", "--vit-ffn", "768", "--qf-d", "128", "--qf-layers", "4",
               "--qf-ffn", "384", "--qf-vocab", "30522", "--llm-d", "192", "--llm-layers", "3", "--llm-heads",
               "6", "--llm-kv", "2", "--llm-head-dim", "32", "--llm-ffn", "512", "--llm-vocab", "32768")
    assert {(n, d, tuple(s)) for n, _, d, s, _ in made} == headers(folder)


def internlm_sizes():
    rows = dry("--preset", "internlm")
    assert sum(size for *_, size in rows) == 20349666304
    assert not any("output.lora" in name for name, *_ in rows)
    rows = dry("--preset", "internlm", "--lora", "wqkv,wo,w1,w2,w3,output")
    assert sum(size for *_, size in rows) == 20355851264


def options():
    plain = {name for name, *_ in dry()}
    new = {name for name, *_ in dry("--base-layer")}
    q = "lm.base_model.model.model.layers.0.self_attn.q_proj"
    assert q + ".weight" in plain and q + ".base_layer.weight" not in plain
    assert q + ".weight" not in new and q + ".base_layer.weight" in new
    assert not any(".lora_" in name for name, *_ in dry("--lora", "none"))
    some = [name for name, *_ in dry("--lora", "q_proj,lm_head") if ".lora_A" in name]
    assert len(some) == 3, some
    assert {dtype for _, _, dtype, *_ in dry("--dtype", "F16")} == {"F16", "I64"}
    assert "is not divisible by" in run("--llm-kv", "3", "--dry-run", status=2).stderr


def headers(folder):
    """{(name, dtype, shape)} of every file, after checking offsets, padding and the index."""
    found, where, total = set(), {}, 0
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".safetensors")):
        with open(os.path.join(folder, file), "rb") as f:
            n = struct.unpack("<Q", f.read(8))[0]
            header = json.loads(f.read(n))
        assert n % 8 == 0
        header.pop("__metadata__")
        at = 0
        for name, t in sorted(header.items(), key=lambda x: x[1]["data_offsets"]):
            assert t["data_offsets"][0] == at, name
            at = t["data_offsets"][1]
            found.add((name, t["dtype"], tuple(t["shape"])))
            where[name] = file
        assert os.path.getsize(os.path.join(folder, file)) == 8 + n + at
        total += at
    path = os.path.join(folder, "model.safetensors.index.json")
    if len(set(where.values())) > 1 or os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            assert json.load(f) == {"metadata": {"total_size": total}, "weight_map": where}
    return found


def digests(folder):
    out = {}
    for file in sorted(os.listdir(folder)):
        with open(os.path.join(folder, file), "rb") as f:
            out[file] = hashlib.sha256(f.read()).hexdigest()
    return out


def need_numpy():
    try:
        import numpy
    except ImportError:
        raise Skip("no numpy for " + sys.executable) from None
    return numpy


def written():
    need_numpy()
    with tempfile.TemporaryDirectory() as tmp:
        a, b, c, one, jobs = (os.path.join(tmp, x) for x in ("a", "b", "c", "one", "jobs"))
        few = ("--max-shard", "400000")
        run(a, *few)
        assert len([f for f in os.listdir(a) if f.endswith(".safetensors")]) > 2
        assert headers(a) == {(n, d, tuple(s)) for n, _, d, s, _ in dry()}
        run(b, *few)
        assert digests(a) == digests(b)
        run(jobs, *few, "--jobs", "3")
        assert digests(a) == digests(jobs)
        assert "--jobs: at least 1" in run(jobs, "--jobs", "0", status=2).stderr
        run(c, *few, "--seed", "2")
        assert headers(a) == headers(c)
        assert all(x != y for (f, x), y in zip(digests(a).items(), digests(c).values()) if "-of-" in f)
        assert "holds a model already" in run(a, status=1).stderr
        with open(os.path.join(tmp, "tokenizer.json"), "w", encoding="utf-8") as f:
            f.write("{}")
        run(one, "--tokenizer", tmp)
        assert sorted(os.listdir(one)) == ["config.json", "model.safetensors", "tokenizer.json"]
        headers(one)
        with open(os.path.join(one, "config.json"), encoding="utf-8") as f:
            config = json.load(f)["model_config"]
        vision = config["vision_encoder"]
        assert int(vision["d_model"] * vision["mlp_ratio"]) == 192
        assert vision["depth"] == 3 and config["llm_config"]["vocab_size"] == 512


def values():
    """Spread of a matrix larger than the block of normals, in each dtype; no two rows alike."""
    np = need_numpy()
    rows, d = 270000, 64
    for dtype in ("BF16", "F32", "F16"):
        with tempfile.TemporaryDirectory() as tmp:
            run(tmp, "--dtype", dtype, "--llm-vocab", str(rows), "--llm-d", str(d))
            path = os.path.join(tmp, "model.safetensors")
            with open(path, "rb") as f:
                n = struct.unpack("<Q", f.read(8))[0]
                header = json.loads(f.read(n))

            def tensor(name):
                t = header[name]
                raw = np.fromfile(path, np.uint8, t["data_offsets"][1] - t["data_offsets"][0],
                                  offset=8 + n + t["data_offsets"][0])
                if t["dtype"] == "BF16":
                    x = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
                else:
                    x = raw.view({"F32": np.float32, "F16": np.float16, "I64": np.int64}[t["dtype"]])
                return x.reshape(t["shape"])

            x = tensor("lm.base_model.model.lm_head.weight").astype(np.float32)
            assert x.shape == (rows, d)
            assert abs(x.std() / (3 / d ** 0.5) - 1) < 0.01 and abs(x.mean()) < 1e-3
            assert len(np.unique(x, axis=0)) == rows
            x = tensor("lm.base_model.model.model.norm.weight").astype(np.float32)
            assert abs(x.mean() - 1) < 0.05 and 0.05 < x.std() < 0.2
            assert tensor("qformer.bert.embeddings.position_ids").ravel().tolist() == list(range(512))


def main():
    tests = [release_sizes, release_names, golden_shapes, internlm_sizes, options, written, values]
    failed = 0
    for i, test in enumerate(tests, 1):
        try:
            test()
            print("ok %d - %s" % (i, test.__name__), flush=True)
        except Skip as reason:
            print("SKIP %s\nok %d - %s # SKIP %s" % (reason, i, test.__name__, reason), flush=True)
        except (AssertionError, OSError, KeyError, ValueError) as error:
            failed += 1
            print("not ok %d - %s\n# %s" % (i, test.__name__, str(error).replace("\n", "\n# ")), flush=True)
    print("1..%d" % len(tests))
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Models whose numbers agree with their tensors but not with what the program computes: heads of an odd size, heads
beyond the limit, as a checkpoint and as a GGUF pair. `info`, `info --plan` and `chat` refuse them with exit code 3,
the file's key, its value and the limit; heads as large as the limit go through. And models with more rows than their
tokenizer has pieces."""
import json
import os
import shutil
import struct

from program import ROOT, Tap, make_image, path, run
from serverrig import Server

FIXTURE = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
IMAGE = make_image()
tap = Tap()


def reshaped(shape, name, size):
    """A tensor's shape with other heads in the language model, where size names them."""
    shape = list(shape)
    if "heads" in size and "self_attn" in name:
        at = {"q_proj": (0, size["heads"]), "k_proj": (0, 1), "v_proj": (0, 1), "o_proj": (1, size["heads"])}
        axis, n = next(v for k, v in at.items() if k in name)
        if name.endswith(("_proj.weight", "base_layer.weight", "lora_B.default.weight" if axis == 0 else "lora_A.default.weight")):
            shape[axis] = n * size["head_dim"]
    return shape


def checkpoint(name, size, **sections):
    """The fixture with other numbers in config.json and tensors to match, all zero."""
    folder = path(name)
    os.makedirs(folder)
    for file in ("tokenizer.json", "vocab.txt"):
        shutil.copy(os.path.join(FIXTURE, file), folder)
    with open(os.path.join(FIXTURE, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    for section, values in sections.items():
        config["model_config"][section].update(values)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    with open(os.path.join(FIXTURE, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    at = 0
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        n = {"F32": 4, "BF16": 2, "F16": 2, "I64": 8}[entry["dtype"]]
        entry["shape"] = reshaped(entry["shape"], tensor, size)
        for d in entry["shape"]:
            n *= d
        entry["data_offsets"] = [at, at + n]
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)
    return folder


def everywhere(model):
    """What the program does with it, each time on a fresh process."""
    return [run("info", "-m", model), run("info", "-m", model, "--plan"),
            run("chat", "-m", model, "--device", "cpu", "-t", "1", "-n", "2", "-q", "-p", "What?"),
            run("chat", "-m", model, "--device", "cpu", "-t", "1", "-n", "2", "-q", "--image", IMAGE, "-p", "What?")]


def refused(name, model, text):
    results = everywhere(model)
    tap.ok(all(r.code == 3 and text in r.err and not r.out for r in results), "refused: " + name, "\n".join(map(str, results)))


def accepted(name, model):
    results = everywhere(model)
    tap.ok(all(r.code == 0 for r in results), "accepted: " + name, "\n".join(map(str, results)))


LANGUAGE = {"num_attention_heads": 2, "num_key_value_heads": 1}
for head, text in ((512, "config.json: model_config.llm_config.head_dim is 512, expected an even number from 4 to 256"),
                   (258, "head_dim is 258, expected"), (256, None), (4, None)):
    made = checkpoint("llm-%d" % head, {"heads": 2, "head_dim": head}, llm_config={**LANGUAGE, "head_dim": head})
    if text:
        refused("a language model with heads of %d" % head, made, text)
    else:
        accepted("a language model with heads of %d" % head, made)
refused("a video transformer with heads of 1", checkpoint("vit-1", {}, vision_encoder={"num_heads": 32}),
        "config.json: model_config.vision_encoder.d_model 32 with num_heads 32 makes heads of 1 values, "
        "expected an even number from 2 to 256")
accepted("a video transformer with heads of 2", checkpoint("vit-2", {}, vision_encoder={"num_heads": 16}))
refused("a Q-Former with heads of 1", checkpoint("qformer-1", {}, qformer_config={"num_attention_heads": 32}),
        "config.json: model_config.qformer_config.hidden_size 32 with num_attention_heads 32 makes heads of 1 values, "
        "expected an even number from 2 to 256")
accepted("a Q-Former with heads of 2", checkpoint("qformer-2", {}, qformer_config={"num_attention_heads": 16}))

# ---- a GGUF pair, one number changed
DST = path("pair")
done = run("quantize", FIXTURE, DST, "--type", "BF16", "-q")
tap.ok(done.code == 0, "a pair of files", done)
NAMES = ("tiny-model-BF16.gguf", "mmproj-tiny-model-BF16.gguf")


def pair(name, file, key, value):
    folder = path("pair-" + name)
    shutil.copytree(DST, folder)
    target = os.path.join(folder, file)
    with open(target, "rb") as f:
        data = f.read()
    found = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", 4)  # u32
    at = data.index(found) + len(found)
    with open(target, "wb") as f:
        f.write(data[:at] + struct.pack("<I", value) + data[at + 4:])
    return os.path.join(folder, NAMES[0])


refused("a pair with heads of 512", pair("key", NAMES[0], "llama.attention.key_length", 512),
        NAMES[0] + ": llama.attention.key_length is 512, expected an even number from 4 to 256")
refused("a pair whose video transformer has heads of 1", pair("vision", NAMES[1], "ivchat.vision.head_count", 32),
        NAMES[1] + ": ivchat.vision.embedding_length 32 with vision.head_count 32 makes heads of 1 values, "
        "expected an even number from 2 to 256")
refused("a pair whose Q-Former has heads of 1", pair("qformer", NAMES[1], "ivchat.qformer.head_count", 32),
        NAMES[1] + ": ivchat.qformer.embedding_length 32 with qformer.head_count 32 makes heads of 1 values, "
        "expected an even number from 2 to 256")

# ---- rows without a piece: they fill a matrix up, and are an error of the model once it chooses one
MORE = 8


def filled_up(name, bits, like):
    """The fixture with MORE rows in its output and its embedding: row `like`, times 2^bits; zero without bits."""
    folder = path(name)
    shutil.copytree(FIXTURE, folder)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config["model_config"]["llm_config"]["vocab_size"] += MORE
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    with open(os.path.join(FIXTURE, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    out = b""
    for tensor, entry in sorted(((t, v) for t, v in header.items() if t != "__metadata__"), key=lambda x: x[1]["data_offsets"]):
        raw = data[slice(*entry["data_offsets"])]
        if tensor.endswith(("lm_head.weight", "lm_head.lora_B.default.weight", "embed_tokens.weight")):
            width = 2 * entry["shape"][1]
            row = struct.unpack("<%dH" % entry["shape"][1], raw[like * width:(like + 1) * width])
            row = [v + (bits << 7) if bits and v & 0x7f80 else 0 for v in row]  # bf16
            raw += MORE * struct.pack("<%dH" % len(row), *row)
            entry["shape"][0] += MORE
        entry["data_offsets"] = [len(out), len(out) + len(raw)]
        out += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + out)
    return folder


def without_pieces(folder, name):
    """A language file of it, with a vocabulary as large, whose tokenizer ends before the last MORE."""
    made = run("quantize", folder, path(name), "--type", "F32", "-q").out.splitlines()[0]
    with open(made, "rb") as f:
        data = f.read()
    for key, kind, size in (("tokens", 8, 16), ("scores", 6, 4), ("token_type", 5, 4)):  # MORE of each: no more to align
        key = ("tokenizer.ggml." + key).encode()
        found = struct.pack("<Q", len(key)) + key + struct.pack("<II", 9, kind)
        at = data.index(found) + len(found)
        n = struct.unpack("<Q", data[at:at + 8])[0] - MORE
        end = at + 8
        for _ in range(n):
            end += 8 + struct.unpack("<Q", data[end:end + 8])[0] if kind == 8 else size
        data = data[:at] + struct.pack("<Q", n) + data[at + 8:end] + data[end + MORE * size:]
    with open(made, "wb") as f:
        f.write(data)
    return made


def chat(model, *args):
    return run("chat", "-m", model, "--device", "cpu", "--dtype", "f32", "-n", "3", "-q", "-p", "What?", *args)


plain = chat(FIXTURE)
favourite = json.loads(chat(FIXTURE, "--json").out)["token_ids"][0]
PIECES = 524  # of the fixture
for kind in ("a checkpoint", "a GGUF file"):
    idle, chosen = (filled_up("%s-%d" % (kind[2:], bits), bits, favourite) for bits in (0, 2))
    if kind == "a GGUF file":
        idle, chosen = (without_pieces(f, os.path.basename(f) + "-gguf") for f in (idle, chosen))
    same = chat(idle)
    tap.ok(plain.code == 0 and same.code == 0 and same.out == plain.out, kind + " with rows that have no piece: the answer as without", same)
    for how, args in (("greedily", []), ("by beams", ["--num-beams", "2"])):
        done = chat(chosen, *args)
        tap.ok(done.code == 3 and "the model chose token %d of its %d, its tokenizer has %d pieces" % (PIECES, PIECES + MORE, PIECES)
               in done.err, "%s that chooses one %s: exit code 3" % (kind, how), done)
    told = run("tokenize", "-m", idle, "--decode", stdin="[%d]\n" % PIECES)
    tap.ok(told.code == 1 and "token id %d is outside the vocabulary of %d" % (PIECES, PIECES) in told.err,
           kind + ": such an id to decode is a bad line of the caller's", told)
with Server(model=chosen) as server:  # one bad answer is not the server's end
    twice = [server.chat("What?", max_tokens=3) for _ in range(2)]
    tap.ok([r.status for r in twice] == [500, 500], "the server, twice: 500", twice[-1])
    told = server.chat("What?", max_tokens=3, stream=True)
    tap.ok(told.status == 500 or "error" in told.body.decode(), "streamed: an error", told)
    tap.ok(server.get("/health").status == 200, "the server is well")
tap.done()

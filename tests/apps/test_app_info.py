#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat info`: description, --verify on sound and damaged files, --plan, the published questions."""
import hashlib
import json
import os
import re
import shutil
import struct

import program
from program import NO_MODEL, Tap, make_video, path, run

tap = Tap()
model = program.model()
if not model:
    tap.skip("info", NO_MODEL)
    tap.done()

clip = make_video()
with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
    config = json.load(f)["model_config"]

r = run("info", "-m", model)
tap.ok(r.code == 0 and r.err == "" and re.search("^licence|^  licence", r.out, re.MULTILINE) and "variant" in r.out,
       "description", r)
r = run("info", "-m", model, "--json")
info = json.loads(r.out) if r.code == 0 else {}
tap.ok(r.code == 0 and r.out.count("\n") == 1, "--json: one line", r)
vision, llm = config["vision_encoder"], config["llm_config"]
tap.ok(info["vision"]["width"] == vision["d_model"] and
       info["vision"]["layers"] == vision["depth"] + vision["x_vis_return_idx"] + 1 and
       info["llm"]["layers"] == llm["num_hidden_layers"] and info["llm"]["vocabulary"] == llm["vocab_size"] and
       info["qformer"]["queries"] == 96, "--json: the dimensions of config.json", info)
tap.ok(info["name"] == os.path.basename(model) and info["type"] == "bf16" and
       {"licence", "access", "base_model", "base_licence"} <= set(info["published"]), "--json: name, terms", info)
shards = sorted(f for f in os.listdir(model) if f.endswith(".safetensors"))
tap.ok(info["files"] == len(shards), "--json: files", info)

# ---- verify
r = run("info", "-m", model, "--verify", "--json")
report = json.loads(r.out)["verify"] if r.code == 0 else {}
sums = []
for shard in shards:
    with open(os.path.join(model, shard), "rb") as f:
        sums.append(hashlib.sha256(f.read()).hexdigest())
tap.ok(r.code == 0 and report["ok"] is True and all(any(s in line for line in report["report"]) for s in sums),
       "--verify: SHA-256 of every file", r)
r = run("info", "-m", model, "--verify")
tap.ok(r.code == 0 and all(s in r.out for s in sums), "--verify as text", r)

# one NaN in the first shard that has an F32 tensor
damaged = path("damaged")
shutil.copytree(model, damaged, copy_function=lambda a, b: shutil.copy(a, b))
for shard in shards:
    file = os.path.join(damaged, shard)
    os.chmod(file, 0o644)
    with open(file, "r+b") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        name = next((n for n, t in header.items() if n != "__metadata__" and t["dtype"] == "F32"), None)
        if name:
            f.seek(8 + size + header[name]["data_offsets"][0] + 4)
            f.write(struct.pack("<f", float("nan")))
            break
if name:
    r = run("info", "-m", damaged, "--verify", "--json")
    told = json.loads(r.out)["verify"]
    tap.ok(r.code == 3 and told["ok"] is False and name in r.out and len(r.lines) == 1,
           "--verify: a NaN is found, named and exits with 3", r)
else:
    tap.skip("--verify: a NaN", "the model has no F32 tensor")

# truncated, missing, wrong shape
with open(os.path.join(damaged, shards[-1]), "r+b") as f:
    f.truncate(os.path.getsize(os.path.join(damaged, shards[-1])) - 1000)
r = run("info", "-m", damaged)
tap.ok(r.code == 3 and shards[-1] in r.err and len(r.lines) == 1, "a truncated shard is named", r)
os.remove(os.path.join(damaged, shards[-1]))
r = run("info", "-m", damaged)
tap.ok(r.code == 3 and shards[-1] in r.err and len(r.lines) == 1, "a missing shard is named", r)
r = run("info", "-m", program.SCRATCH.name)
tap.ok(r.code == 3 and "config.json" in r.err, "a folder that is no model", r)

# ---- plan
r = run("info", "-m", model, "--plan", "--json", "-p", "What happens?", "-n", "50")
plan = json.loads(r.out)["plan"] if r.code == 0 else {}
tap.ok(r.code == 0 and plan["clips"] == 3 and plan["visual_tokens"] == 288 and plan["max_new_tokens"] == 50 and
       plan["prompt_tokens"] > 288, "--plan: tokens of the default grid", r)
tap.ok(plan["peak_bytes"] >= plan["weight_bytes"] > 0 and plan["kv_bytes"] > 0 and plan["vision_s"] > 0 and
       abs(plan["total_s"] - plan["vision_s"] - plan["prefill_s"] - 50 * plan["decode_s_per_token"]) < 1e-6,
       "--plan: memory and time", plan)
tap.ok(all(isinstance(plan[key], int) for key in plan if key.endswith("_bytes")), "--plan: bytes are whole numbers", plan)
more = json.loads(run("info", "-m", model, "--plan", "--json", "--num-frames", "16").out)["plan"]
tap.ok(more["vision_flop"] > 1.9 * plan["vision_flop"], "--plan: twice the frames, twice the work", more)
tap.ok("gpu" not in json.loads(run("info", "-m", model, "--plan", "--json", "--device", "cpu").out)["plan"],
       "--plan --device cpu: nothing of a GPU")
r = run("info", "-m", model, "--plan", "--json", "--device", "cuda:0")
gpu = json.loads(r.out)["plan"]["gpu"] if r.code == 0 else {}
tap.ok(gpu.get("kind") in ("device", "estimate", "unknown") and (gpu["kind"] == "device") == (gpu["reason"] is None) and
       (gpu["kind"] == "unknown" or gpu["peak_bytes"] > gpu["weight_bytes"] > 0),
       "--plan --device cuda:0: with or without a GPU, and with a build that knows none", r)
r = run("info", "-m", model, "--plan", "--device", "cuda:0")
tap.ok(r.code == 0 and "GPU memory" in r.out and (gpu.get("kind") != "unknown" or "cannot be told" in r.out), "and as text", r)
# SPEC 3.7: 1920x1080 with hd_num 6 has 2x3 tiles and the global view
r = run("info", "-m", model, "--plan", "--json", "--padding", "--size", "1920x1080")
tap.ok(r.code == 0 and json.loads(r.out)["plan"]["clips"] == 7, "--plan --padding --size 1920x1080: 7 clips", r)
r = run("info", "-m", model, "--plan", "--json", "--padding", "--hd-num", "4", "--video", clip)
tap.ok(r.code == 0 and json.loads(r.out)["plan"]["clips"] == 5, "--plan: the size comes from the video", r)
r = run("info", "-m", model, "--plan", "--padding")
tap.ok(r.code == 2 and "--size" in r.err and r.out == "", "--plan: a size that is needed and not given", r)
r = run("info", "-m", model, "--ctx", "100")
tap.ok(r.code == 0 and "warning: --ctx has no effect" in r.err, "--ctx is told to have no effect", r)
r = run("info", "-m", model, "--plan", "--video", path("never opened.mp4"))
tap.ok(r.code == 0 and "memory" in r.out, "--plan as text; the default grid does not open the video", r)

# ---- the published questions
r = run("info", "-m", model, "--verify", "--video", clip, "--num-frames", "1", "--json")
asked = json.loads(r.out)["published_questions"] if r.code == 0 else {"answers": []}
tap.ok(r.code == 0 and len(asked["answers"]) == 2 and
       asked["answers"][1]["published"] == "The woman in the video is wearing a black tank top and grey yoga pants." and
       not any(a["equal"] for a in asked["answers"]) and "dimensions" in asked["note"],
       "--verify --video: ours beside the published, not called equal", r)
tap.ok({"pixels", "vit", "qformer", "projected", "logits"} <= set(asked.get("stages", {})) and
       all(re.fullmatch("[0-9a-f]{16}", h) for h in asked["stages"].values()), "--verify --video: stage hashes", asked)
again = run("info", "-m", model, "--verify", "--video", clip, "--num-frames", "1", "--json", "-t", "1")
tap.ok(json.loads(again.out)["published_questions"] == asked, "the hashes do not depend on the threads", again)
tap.done()

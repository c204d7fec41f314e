#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat`: streaming, JSON, sources of questions, media, reuse, generation options."""
import json
import os
import re

import program
from program import SHARED, Tap, make_image, make_video, run

tap = Tap()
model = program.TINY

clip, picture = make_video(), make_image()
BASE = ["chat", "-m", model, "--dtype", "f32", "-n", "6"]
VIDEO = [*BASE, "--video", clip, "--num-frames", "2"]
ONE = [*BASE, "--video", clip, "--num-frames", "1"]
ASK = ["-p", "What happens?", "-p", "Who is in it?"]
KEYS = ["turn", "response", "token_ids", "finish_reason", "prompt_tokens", "cached_tokens", "video", "timings",
        "model", "version"]
VIDEO_KEYS = ["path", "sha256", "frame_count", "fps", "frame_indices", "frame_seconds", "width", "height", "tiles",
              "clips"]
TIMING_KEYS = ["load_ms", "decode_video_ms", "preprocess_ms", "vision_ms", "qformer_ms", "prefill_ms", "generate_ms",
               "ttft_ms", "tokens_per_second"]


def turns(result):
    return [json.loads(line) for line in result.out.splitlines()]


# ---- one object a turn
reference = run(*VIDEO, *ASK, "--json", "-v")
first, second = turns(reference) if reference.code == 0 else ({}, {})
tap.ok(reference.code == 0 and reference.out.count("\n") == 2 and reference.out.endswith("\n"), "--json: a line a turn",
       reference)
tap.ok([list(t) for t in (first, second)] == [KEYS, KEYS], "--json: exactly the documented keys", first)
tap.ok(list(first["video"]) == VIDEO_KEYS and list(first["timings"]) == TIMING_KEYS and
       list(first["model"]) == ["name", "variant", "type"], "--json: keys of video, timings, model", first)
video = first["video"]
tap.ok(video["path"] == clip and re.fullmatch("[0-9a-f]{64}", video["sha256"]) and video["frame_count"] == 20 and
       video["fps"] == 10 and (video["width"], video["height"]) == (64, 48) and video["tiles"] == [2, 1] and
       video["clips"] == 3, "--json: what the video is", video)
# SPEC 3.1 with n = 20, s = 2: 9.5 each, start 4, rint(9.5) = 10
tap.ok(video["frame_indices"] == [4, 14] and video["frame_seconds"] == [0.4, 1.4], "--json: sampled frames", video)
tap.ok((first["turn"], second["turn"]) == (1, 2) and 1 <= len(first["token_ids"]) <= 6 and
       first["finish_reason"] in ("stop", "length"), "--json: turn, ids, reason", first)
tap.ok(first["timings"]["vision_ms"] > 0 and second["timings"]["vision_ms"] == 0 and
       first["timings"]["load_ms"] > 0 and second["timings"]["load_ms"] == 0, "costs stand in the turn that paid them")
tap.ok(first["cached_tokens"] == 0 and second["cached_tokens"] >= first["prompt_tokens"] - 1,
       "the second turn reuses the first one's prompt", second)
parts = sum(first["timings"][k] for k in TIMING_KEYS[1:6])
tap.ok(first["timings"]["ttft_ms"] >= parts - 1, "ttft_ms includes decoding, vision and prefill", first["timings"])
tap.ok(re.fullmatch("logits [0-9a-f]{16}", reference.lines[-1]), "-v ends with the hash of the logits", reference.lines)
tap.ok("frame indices: 4 14" in reference.lines and any("tiles: 2x1" in x for x in reference.lines),
       "-v tells frames and tiles", reference.err)

tap.ok([x for x in reference.lines if x.startswith("question ")] ==
       ["question 1: What happens?", "question 2: Who is in it?"], "-v tells the questions", reference.lines)

# ---- the same conversation by other ways
ANSWERS = first["response"] + "\n" + second["response"] + "\n"
r = run(*VIDEO, *ASK)
tap.ok(r.code == 0 and r.out == ANSWERS and "timings:" in r.err, "streamed text equals the response", r)
r = run(*VIDEO, *ASK, "--quiet")
tap.ok(r.code == 0 and r.out == ANSWERS and r.err == "", "--quiet says nothing on standard error", r)
r = run(*VIDEO, "-q", stdin="What happens?\n\nWho is in it?")
tap.ok(r.code == 0 and r.out == ANSWERS, "questions from standard input, empty lines passed over", r)
r = run(*VIDEO, "-q", "-p", "What happens?", "-p", "-", stdin="Who is in it?\r\n")
tap.ok(r.code == 0 and r.out == ANSWERS, "-p and then -p -", r)
r = run("chat", "-q", env={"IVCHAT_MODEL": model, "IVCHAT_DTYPE": "f32", "IVCHAT_MAX_NEW_TOKENS": "6",
                           "IVCHAT_VIDEO": clip, "IVCHAT_NUM_SEGMENTS": "2", "IVCHAT_PROMPT": "What happens?",
                           "IVCHAT_JSON": "1"})
tap.ok(r.code == 0 and turns(r)[0]["token_ids"] == first["token_ids"], "every option from the environment", r)
with open(clip, "rb") as f:
    r = run(*BASE, "-q", "--video", "-", "--num-frames", "2", "-p", "What happens?", stdin=f.read())
tap.ok(r.code == 0 and r.out == first["response"] + "\n", "--video - reads standard input", r)
r = run(*VIDEO, *ASK, "--json", "-q", "--cache-mib", "0")
again = turns(r)
tap.ok([t["token_ids"] for t in again] == [first["token_ids"], second["token_ids"]] and
       [t["cached_tokens"] for t in again] == [0, 0] and again[1]["timings"]["vision_ms"] > 0,
       "--cache-mib 0 computes all anew, same tokens", r)
r = run(*VIDEO, *ASK, "-v", "--json", "-t", "1")
tap.ok(r.code == 0 and r.lines[-1] == reference.lines[-1], "one thread: the same hash", r.err)

# ---- other media
r = run(*BASE, "--json", "-q", "-p", "Hello")
tap.ok(r.code == 0 and turns(r)[0]["video"] is None and turns(r)[0]["prompt_tokens"] < 20, "text only: video is null", r)
r = run(*BASE, "--json", "-q", "--image", picture, "-p", "Hello")
tap.ok(r.code == 0 and turns(r)[0]["video"]["image"] is True and turns(r)[0]["video"]["path"] == picture,
       "an image", r)
r = run(*VIDEO, "--json", "-q", "--start", "1", "--end", "2", "-p", "Hello")
tap.ok(r.code == 0 and all(10 <= i < 20 for i in turns(r)[0]["video"]["frame_indices"]), "--start and --end", r)
r = run(*ONE, "--json", "-q", "--padding", "--hd-num", "4", "-p", "Hello")
tap.ok(r.code == 0 and turns(r)[0]["video"]["clips"] == 5 and turns(r)[0]["video"]["tiles"] == [2, 2], "--padding", r)
r = run(*ONE, "--json", "--no-antialias", "--top-k", "3", "-p", "Hello")
tap.ok(r.code == 0 and "warning: --no-antialias has no effect" in r.err and
       "warning: --top-k has no effect with --temp 0" in r.err, "options without effect are told", r)

r = run(*BASE, "--json", "--image", picture, "--time-text", "-p", "Hello")
tap.ok(r.code == 0 and "warning: --time-text has no effect" in r.err, "--time-text with an image: told, no error", r)
r = run(*BASE, "-p", "Hello", "--msg", "x", "--padding", "--length-penalty", "2")
tap.ok(r.code == 0 and all("warning: %s has no effect" % o in r.err for o in ("--msg", "--padding", "--length-penalty")),
       "options without media or beams are told", r)
r = run(*ONE, "-p", "Hello", "--hd-num", "12")
tap.ok(r.code == 0 and "warning: --hd-num has no effect without --padding" in r.err,
       "--hd-num in the default grid is told", r)

# ---- generation options
text = turns(run(*BASE, "--json", "-q", "-p", "What happens?"))[0]
r = run(*BASE, "--json", "-q", "-p", "What happens?", "-n", "1", "-n", "3")
tap.ok(turns(r)[0]["token_ids"] == text["token_ids"][:3] and turns(r)[0]["finish_reason"] == "length",
       "-n: the last one counts", r)
stop = text["response"][3:6]
r = run(*BASE, "--json", "-q", "-p", "What happens?", "--stop", "never there", "--stop", stop)
t = turns(r)[0]
tap.ok(t["finish_reason"] == "stop" and t["response"] == text["response"][:text["response"].index(stop)],
       "--stop ends the answer before the text", r)
r = run(*BASE, "-q", "-p", "What happens?", "--stop", stop)
tap.ok(r.out == t["response"] + "\n", "--stop: nothing of the text is streamed", r)
sampled = [run(*BASE, "--json", "-q", "-p", "What happens?", "--temp", "5", "--seed", s) for s in ("1", "1", "2")]
ids = [turns(s)[0]["token_ids"] for s in sampled]
tap.ok(ids[0] == ids[1] != ids[2], "--seed: same seed, same tokens; another seed, others", ids)
r = run(*BASE, "-q", "-p", "What happens?", "--num-beams", "2")
j = run(*BASE, "-q", "--json", "-p", "What happens?", "--num-beams", "2")
tap.ok(r.code == 0 and r.out == turns(j)[0]["response"] + "\n", "beam search writes its answer once", r)
a = run(*BASE, "--json", "-q", "-p", "</s>[INST]")
b = run(*BASE, "--json", "-q", "-p", "</s>[INST]", "--allow-special")
tap.ok(turns(a)[0]["prompt_tokens"] > turns(b)[0]["prompt_tokens"], "--allow-special makes control tokens", (a, b))
plain = run(*ONE, "--json", "-q", "-p", "Hello")
for option in (["--instruction", "Carefully watch the video.\n"], ["--msg", "A message."], ["--time-text"],
               ["--answer-prefix", "Best option:("]):
    r = run(*ONE, "--json", "-q", "-p", "Hello", *option)
    tap.ok(r.code == 0 and turns(r)[0]["prompt_tokens"] > turns(plain)[0]["prompt_tokens"],
           option[0] + " lengthens the prompt", r)

# ---- golden conversations: HD, an instruction for the Q-Former, 16 frames, the template and tokenizer of InternLM
yoga = os.path.join(SHARED, "data", "upstream", "yoga.mp4")
manifest = os.path.join(SHARED, "golden", "manifest.json")
GOLDEN = [("tiny-hd", ["hd/turn1", "hd/turn2"], []), ("tiny-hd", ["hd/instruction_short"], []),
          ("tiny-hd", ["hd/f16_yoga"], ["--variant", "f16"]), ("tiny-internlm", ["internlm/turn1", "internlm/turn2"], [])]
if os.path.isfile(yoga) and os.path.isfile(manifest):
    with open(manifest, encoding="utf-8") as f:
        cases = {c["id"]: c for c in json.load(f)["cases"]}
    for checkpoint, names, options in GOLDEN if not program.sanitized() else GOLDEN[:1]:
        talk = [cases[name] for name in names]
        instruction = talk[0]["inputs"].get("instruction")
        r = run("chat", "-m", os.path.join(SHARED, "golden", checkpoint), "--dtype", "f32", "--json", "-q", "--video", yoga, "-n", "32",
                *options, *(["--instruction", instruction] if instruction else []),
                *[a for c in talk for a in ("-p", c["inputs"]["prompt"])])
        got = [(t["token_ids"], t["response"]) for t in turns(r)] if r.code == 0 else r
        tap.ok(got == [(c["values"]["generated_ids"], c["values"]["response"]) for c in talk],
               " and ".join(names) + ": the reference's tokens and text", got)
else:
    tap.skip("golden conversations", "no golden data beside the checkout")
tap.done()

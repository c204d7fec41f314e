#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every way to get an option wrong: exit code 2 and one line that names option, expectation and value.

A row is (arguments, environment, exit code, text that the line must hold). "Accepted" is exit code 3 here: the
options were understood and the model's folder does not exist.
"""
import json

import program
from program import Tap, run

tap = Tap()
MODEL = ("-m", program.path("absent"))
LONG = "x" * 200

WRONG = [
    # values
    (["chat", "--top-p", "2"], {}, '--top-p: expected a number in (0,1], got "2"'),
    (["chat", "--top-p", "0"], {}, '--top-p: expected a number in (0,1], got "0"'),
    (["chat", "--top-p=nan"], {}, 'got "nan"'),
    (["chat", "--temp", "-0.1"], {}, '--temp: expected a number in [0,100], got "-0.1"'),
    (["chat", "--temp", "inf"], {}, 'got "inf"'),
    (["chat", "--temp", "1e999"], {}, 'got "1e999"'),
    (["chat", "--temp", "0x1p3"], {}, 'got "0x1p3"'),
    (["chat", "--temp", " 1"], {}, 'got " 1"'),
    (["chat", "--temp", "1,5"], {}, 'got "1,5"'),
    (["chat", "--temp", ""], {}, '--temp: expected a number in [0,100], got ""'),
    (["chat", "--temperature", "x"], {}, '--temperature: expected a number in [0,100], got "x"'),
    (["chat", "-n", "0"], {}, '-n: expected a whole number in [1,1000000], got "0"'),
    (["chat", "-n3.5"], {}, '-n: expected a whole number in [1,1000000], got "3.5"'),
    (["chat", "-n=ten"], {}, 'got "ten"'),
    (["chat", "--max-new-tokens", "99999999999999999999"], {}, 'got "99999999999999999999"'),
    (["chat", "--seed", "-1"], {}, "--seed: expected a whole number in [0,18446744073709551615]"),
    (["chat", "--seed", "18446744073709551616"], {}, "--seed: expected a whole number"),
    (["chat", "--num-beams", "0"], {}, "--num-beams: expected a whole number in [1,64]"),
    (["chat", "--repetition-penalty", "0"], {}, "--repetition-penalty: expected a number in [0.001,10]"),
    (["chat", "--repetition-penalty", "1e-5"], {}, "--repetition-penalty: expected a number in [0.001,10]"),
    (["chat", "--num-frames", "-3"], {}, "--num-frames: expected a whole number in [0,512]"),
    (["chat", "--num-segments", "many"], {}, '--num-segments: expected a whole number in [0,512], got "many"'),
    (["chat", "--hd-num", "0"], {}, "--hd-num: expected a whole number in [1,64]"),
    (["chat", "--fix-ratio", "2"], {}, '--fix-ratio: expected WxH with both in [1,64] or auto, got "2"'),
    (["chat", "--fix-ratio", "0x1"], {}, 'got "0x1"'),
    (["chat", "--fix-ratio", "2x1x1"], {}, 'got "2x1x1"'),
    (["info", "--size", "auto"], {}, '--size: expected WxH with both in [1,16384], got "auto"'),
    (["chat", "--start", "-1"], {}, "--start: expected a number in [0,1e9]"),
    (["chat", "--variant", "9b"], {}, '--variant: expected one of 8b|hd|f16|internlm, got "9b"'),
    (["chat", "--variant", "8b|hd"], {}, 'got "8b|hd"'),
    (["chat", "--dtype", "F16"], {}, '--dtype: expected one of f32|bf16|int8, got "F16"'),
    (["chat", "--dtype", "fp64"], {}, '--dtype: expected one of f32|bf16|int8, got "fp64"'),
    (["chat", "--progress", "sometimes"], {}, "--progress: expected one of auto|never|always"),
    (["chat", "-t", "2000"], {}, "-t: expected a whole number in [0,1024]"),
    (["embed", "--stage", "logits"], {}, "--stage: expected one of pixels|vit|qformer|projected"),
    (["tokenize", "--kind", "gpt"], {}, "--kind: expected one of lm|bert"),
    (["chat", "--top-p", LONG], {}, 'got "%s"...' % LONG[:60]),
    (["chat", "--top-p", "a\nb\x1b[31m"], {}, 'got "a\\x0ab\\x1b[31m"'),
    # names
    (["chat", "--topp", "1"], {}, 'unknown option "--topp", did you mean --top-p?'),
    (["chat", "--vidoe=a.mp4"], {}, 'unknown option "--vidoe", did you mean --video?'),
    (["chat", "--max-new", "5"], {}, "did you mean --max-new-tokens?"),
    (["chat", "--quux"], {}, 'unknown option "--quux"'),
    (["chat", "-x"], {}, 'unknown option "-x"'),
    (["tokenize", "--video", "a.mp4"], {}, 'unknown option "--video"'),
    (["chat", "--no-video"], {}, 'unknown option "--no-video"'),
    (["chat", "clip.mp4"], {}, 'unexpected argument "clip.mp4"'),
    (["chat", "--", "-p"], {}, 'unexpected argument "-p"'),
    # missing and surplus values
    (["chat", "-p"], {}, "-p: needs a value (TEXT)"),
    (["chat", "--video", "--json"], {}, "--video: needs a value (FILE), found the option --json"),
    (["chat", "--json=yes"], {}, '--json: takes no value, got "yes"'),
    # options that contradict each other or this version
    (["chat", *MODEL, "--video", "a", "--image", "b", "-p", "x"], {}, "--video and --image exclude each other"),
    (["chat", *MODEL, "--video", "a", "--padding", "--fix-ratio", "1x1", "-p", "x"], {},
     "--padding and --fix-ratio exclude each other"),
    (["chat", *MODEL, "--video", "a", "--start", "5", "--end", "4", "-p", "x"], {}, "--end: 4 s is not after --start"),
    (["chat", *MODEL, "--video", "-"], {}, "standard input is the video"),
    (["chat", *MODEL, "--video", "-", "-p", "-"], {}, "standard input is the video"),
    (["chat", *MODEL, "--msg", "a", "--time-text", "-p", "x"], {}, "--msg and --time-text exclude each other"),
    (["chat", *MODEL, "--stop", "", "-p", "x"], {}, "--stop: expected a text"),
    (["chat", *MODEL, "--video", "", "-p", "x"], {}, '--video: expected a name, got ""'),
    (["chat", *MODEL, "--image", "a", "--image=", "-p", "x"], {}, '--image: expected a name, got ""'),
    (["chat", "-m", "", "-p", "x"], {}, '-m: expected a name, got ""'),
    (["chat", *MODEL, "--save", "", "-p", "x"], {}, '--save: expected a name, got ""'),
    (["chat", *MODEL, "--load", "", "-p", "x"], {}, '--load: expected a name, got ""'),
    (["chat", *MODEL, "--cache-dir=", "-p", "x"], {}, '--cache-dir: expected a name, got ""'),
    (["quantize", "", "x"], {}, 'SRC: expected a name, got ""'),
    (["quantize", "x", ""], {}, 'DST: expected a name, got ""'),
    (["quantize", "x", "y", "--imatrix", ""], {}, '--imatrix: expected a name, got ""'),
    (["chat", *MODEL, "--device", "cuda", "-p", "x"], {}, 'device "cuda": cuda:0: this build has no CUDA'),
    (["chat", *MODEL, "--device", "cuda:1", "-p", "x"], {}, 'device "cuda:1": cuda:1: this build has no CUDA'),
    (["chat", *MODEL, "--device", "tpu", "-p", "x"], {}, '--device: expected cpu, cuda[:N] or auto, got "tpu"'),
    (["embed", *MODEL, "-o", "a.npy"], {}, "no media given"),
    (["embed", *MODEL, "--video", "a"], {}, "no output given"),
    (["embed", *MODEL, "--video", "a", "-o", "a.txt"], {}, "--output: expected a name that ends in .npy or .safetensors"),
    (["info", *MODEL, "--plan", "--padding"], {}, "--plan: the grid depends on the frame size"),
    (["chat", *MODEL, "--stop", "x" * 1025, "-p", "x"], {}, "--stop: 1025 bytes, at most 1024 are accepted"),
    (["chat", *MODEL, *["--stop=x"] * 65, "-p", "x"], {}, "--stop: 65 texts, at most 64 are accepted"),
    (["chat", *MODEL, "--video", "a", "--fix-ratio", "13x5", "-p", "x"], {}, "--fix-ratio: 13x5 are 65 tiles"),
    (["info", *MODEL, "--video", "a"], {}, "--video and --image need --verify or --plan"),
    # environment twins
    (["chat", *MODEL, "-p", "x"], {"IVCHAT_TOP_P": "2"}, 'IVCHAT_TOP_P: expected a number in (0,1], got "2"'),
    (["chat", *MODEL, "-p", "x"], {"IVCHAT_NUM_SEGMENTS": "x"}, "IVCHAT_NUM_SEGMENTS: expected a whole number"),
    (["chat", *MODEL, "-p", "x"], {"IVCHAT_JSON": "maybe"}, 'IVCHAT_JSON: expected 1 or 0, got "maybe"'),
    (["chat", *MODEL, "-p", "x"], {"IVCHAT_DEVICE": "cuda"}, 'device "cuda": cuda:0: this build has no CUDA'),
]

ACCEPTED = [
    (["chat", *MODEL, "-p", "x"], {}),
    (["chat", "-m" + MODEL[1], "-p=x", "-n5", "-t=1", "--temp=.5", "--top-p", "1", "--seed", "18446744073709551615"], {}),
    (["chat", *MODEL, "-p", "x", "--temp", "1e-1", "--no-antialias", "--no-json", "--fix-ratio", "auto", "--stop", "a",
      "--stop", "b", "-v", "--quiet", "--log-json"], {}),
    (["chat", *MODEL, "--prompt=--dump"], {}),
    (["chat", *MODEL, "-p", "x", "--top-p", "0.5"], {"IVCHAT_TOP_P": "2"}),
    (["chat", *MODEL, "-p", "x"], {"IVCHAT_TOP_P": "", "IVCHAT_VIDEO": ""}),
    (["chat", *MODEL, "-p", "", "--instruction", "", "--msg=", "--answer-prefix", ""], {}),
    (["chat", "-p", "x"], {"IVCHAT_MODEL": MODEL[1]}),
    (["chat", "-p", "x"], {"IVCHAT_MODELS_DIR": MODEL[1]}),
    (["chat", "-p", "x"], {"IVCHAT_MODELS_DIR": MODEL[1], "IVCHAT_MODEL": ""}),
    (["chat", *MODEL], {"IVCHAT_PROMPT": "x", "IVCHAT_NO_ANTIALIAS": "yes", "IVCHAT_JSON": "off"}),
    (["chat", *MODEL, "-p", "x", "--device", "auto", "--dtype", "f32", "--cpu", "ref"], {}),
    (["chat", *MODEL, "-p", "x", "--dtype", "BF16", "--cache-type-k", "Q8_0", "--gpu-weights", "Q4_K_M"], {}),
    (["quantize", MODEL[1], program.path("out"), "--type", "q4_k_m", "--vision-type", "f16"], {}),
]

for args, env, text in WRONG:
    r = run(*args, env=env)
    one_line = len(r.lines) == 1 and r.lines[0].startswith("ivchat %s: " % args[0])
    name = " ".join(a.replace("\n", "\\n").replace("\x1b", "\\e")[:40] for a in args if a not in MODEL)
    tap.ok(r.code == 2 and r.out == "" and one_line and text in r.err,
           "%s %s" % (name, " ".join("%s=%s" % e for e in env.items())), "expected: %s\n%s" % (text, r))
for args, env in ACCEPTED:
    r = run(*args, env=env)
    tap.ok(r.code == 3 and "absent" in r.err, "accepted: " + " ".join(a for a in args if a not in MODEL), r)

# errors of parsing point to the help
tap.ok("--help" in run("chat", "--topp").err, "an unknown option points to --help")

# models that cannot be opened
for name, text in (("model.gguf", "model.gguf"), ("OpenGVLab/InternVideo2-Chat-8B", "`ivchat pull OpenGVLab/InternVideo2-Chat-8B` downloads it"),
                   (program.path("absent"), "absent"), ("/dev/null", "/dev/null")):
    r = run("chat", "-m", name, "-p", "x", env={"HF_HOME": "/nonexistent"})
    tap.ok(r.code == 3 and r.out == "" and len(r.lines) == 1 and text in r.err, "model " + name.split("/")[-1], r)

# --log-json makes the error a JSON line
r = run("chat", "--log-json", "--topp")
line = json.loads(r.err)
tap.ok(r.code == 2 and line["level"] == "error" and "--topp" in line["message"], "--log-json: the error is JSON", r)
for value, as_json in (("1", True), ("true", True), ("on", True), ("0", False), ("off", False)):
    r = run("chat", "--topp", env={"IVCHAT_LOG_JSON": value})
    tap.ok(r.code == 2 and r.err.startswith("{") == as_json, "IVCHAT_LOG_JSON=%s: so is the error" % value, r)
tap.done()

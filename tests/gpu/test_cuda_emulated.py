#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat --device cuda:0` of a build with emulated kernels (preset cuda-emulated) against `--device cpu` of the
same program: the same token ids in text, and media and quantised weights go through. Small, because the emulation is
slow; the kernels themselves are held to their tolerances by the check programs beside this file."""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("IVCHAT", os.path.join(ROOT, "build-cuda-emulated", "ivchat"))
sys.path.insert(0, os.path.join(ROOT, "tests", "apps"))
from program import NO_MODEL, Tap, make_image, model, path, read_npy, run  # noqa: E402

TEXT = ["-p", "What happens?", "-p", "Who is in it?"]


def ids(result):
    """Token ids of each turn; None when the program failed."""
    if result.code != 0:
        return None
    return [json.loads(line)["token_ids"] for line in result.out.splitlines()]


def ask(folder, device, *args):
    return run("chat", "-m", folder, "--device", device, "--json", "-v", *args)


def features(folder, device, dtype):
    """The video transformer's rows of an image; None when the program failed."""
    out = path("%s-%s.npy" % (dtype, device.replace(":", "")))
    result = run("embed", "-m", folder, "--device", device, "--dtype", dtype, "--image", make_image(), "-q", "--stage", "vit",
                 "-o", out)
    return read_npy(out)[1] if result.code == 0 else None


def logits(folder, device, dtype, *args):
    """Those behind a prompt without media; None when the program failed."""
    out = path("logits-%s-%s%s" % (dtype, device.replace(":", ""), "".join(args)))
    result = run("chat", "-m", folder, "--device", device, "--dtype", dtype, *args, "-p", "What happens, and who is in it?", "-n", "1", "-q",
                 "--dump", out)
    return read_npy(out + "/logits.npy")[1] if result.code == 0 else None


def distance(a, b):
    return (sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b)) ** 0.5 if a and b else float("nan")


def main():
    tap = Tap()
    folder = model("tiny-internlm")
    if not folder:
        tap.skip("chat --device cuda:0, emulated", NO_MODEL)
        tap.done()
    for dtype in ("f32", "bf16"):
        args = ["--dtype", dtype, "-n", "4", *TEXT]
        here, there = ask(folder, "cpu", *args), ask(folder, "cuda:0", *args)
        tap.ok(ids(here) and ids(here) == ids(there), dtype + ": two turns, the ids of the processor",
               "%s\n%s" % (here, there))
        tap.ok("on cuda:0" in there.err and "on cpu" in here.err, dtype + ": -v names the device", there.err)
    args = ["--dtype", "f32", "-n", "3", "--image", make_image(), "-p", "What is it?"]
    here, there = ask(folder, "cpu", *args), ask(folder, "cuda:0", *args)
    tap.ok(ids(here) and ids(here) == ids(there), "an image: the ids of the processor", "%s\n%s" % (here, there))
    # LayerScale and its bias in bf16 weights, GELU with tanh: measured 0.0030, the processor's bf16 0.0025
    far = distance(features(folder, "cuda:0", "bf16"), features(folder, "cpu", "f32"))
    tap.ok(far <= 0.006, "the video transformer in bf16: %.4f beside f32 on the processor" % far, far)
    # LoRA is merged into the weights: measured 0.011 and 0.035, with a tenth more of it 0.089 and 0.079
    exact = logits(folder, "cpu", "f32")
    for name, most, args in (("bf16", 0.02, []), ("q8_0", 0.05, ["--gpu-weights", "q8_0"])):
        far = distance(logits(folder, "cuda:0", "bf16", *args), exact)
        tap.ok(far <= most, "the language model in %s: %.4f beside f32 on the processor" % (name, far), far)
    args = ["--dtype", "bf16", "-n", "3", "--cache-type-k", "f16", "-p", "What?"]
    here, there = ask(folder, "cpu", *args), ask(folder, "auto", *args)
    tap.ok(ids(here) and ids(here) == ids(there) and "cache types f16 and bf16: running on the CPU" in there.err and
           "on cpu" in there.err, "--device auto with other cache types: on the processor, and -v says why", there)
    there = ask(folder, "cuda:0", *args)
    tap.ok(there.code == 2 and 'device "cuda:0": cache types f16 and bf16' in there.err, "cuda:0 with them is refused", there)
    tap.done()


if __name__ == "__main__":
    main()

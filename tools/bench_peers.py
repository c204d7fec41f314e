#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ivchat beside the fastest other engines on this machine's CPU, in turns: A B C A B C, as ratios of each round.

  tools/bench_peers.py install --env DIR [--ik SOURCE]
  tools/bench_peers.py files --env DIR --model MODEL [--tokenizer DIR]
  tools/bench_peers.py run --env DIR --model MODEL --only WORK,... --rounds N --out FILE [--gguf FILE...] [--video FILE]
  tools/bench_peers.py table --out FILE [--json]

install makes a scratch environment: PyTorch in the version that zentorch wants, zentorch, OpenVINO and nncf, transformers,
llama-cpp-python; the newest PyTorch for the reference's way; with --ik (a source tree or git folder of ik_llama.cpp) its
programs. What cannot be had is told and left out. About 13 GB.

files writes what the peers and the tiers are measured with to DIR/files: --layers of the language model's 32 as BF16 and, for
ik, IQ4_K; one block and one layer of the release's sizes; with --q4-0 all of MODEL as Q4_0. About 5 GB, 4 more for Q4_0.

run measures MODEL, the full-size one (tools/random_checkpoint.py makes one of random weights), and each --gguf of it, or
without --model these alone:
  vision        one clip in bf16: eager PyTorch (how the reference runs), zentorch, OpenVINO
  vision-int8   the same in int8: OpenVINO with nncf
  prefill       --prompt tokens. MODEL with its LoRA in bf16: ik's BF16 repacked, PyTorch with LoRA; each --gguf: llama.cpp and
                ik on the same file, and ik's IQ4_K
  decode        a token, one conversation: MODEL beside llama.cpp and ik in BF16; each --gguf, the peers on the same file
  sessions      a token in each of --sessions conversations at once, as a multiple of one: as decode
  beside        decode with another process that is busy all the time, as a share of without: as decode
  turn          a first turn of --new-turn tokens and the second to its first token: MODEL in bf16 beside the reference's way
                (eager PyTorch with LoRA) and the best peers glued together
  turn-int8     the same with --dtype int8 and the first --gguf, beside OpenVINO int8 and ik
  second        the second turn after a short answer (ours alone)
  tiers         stages with each of --tiers, as a share of that tier's own peaks (ours alone; one block, one layer)

Peers run 4 of 39 vision blocks, and as PyTorch and in BF16 and IQ4_K --layers of 32 layers, multiplied: all of them would not
fit in memory beside ours. Ours, and peers on a --gguf, run whole. A turn of peers is the sum of what was measured in
that round: clips, prefill and steps; they get decoding the video, the Q-Former and what joins them for nothing.

Peaks are measured before and after each run; decode of ours is held against what `ivchat bench` read between its steps. A
finished round is a line of --out; a run makes those that are missing up to --rounds, with --within S none that would not end
in S seconds, and exits with 3 if some are still missing. Another ivchat or other settings begin anew.
"""
import argparse
import datetime
import glob
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

import peer_table
from peer_runs import DEPTH, Ik, Ours, Peaks, Worker, forget, model_files, one_round, say

HERE = os.path.dirname(os.path.abspath(__file__))
MORE_TO_DO = 3


# ---- the environment

def python_of(args):
    return os.path.join(args.env, "bin", "python")


def attempt(what, *command, **kwargs):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **kwargs)
    say("%-18s %s" % (what, "ok" if done.returncode == 0 else "FAILED: " + (done.stdout.strip() or "?").splitlines()[-1][:200]))
    return done.returncode == 0


def zentorch_wheel(pip, folder):
    """(torch it wants, wheel), or (None, None)."""
    attempt("zentorch, download", *pip, "download", "-q", "--no-deps", "-d", folder, "zentorch")
    wheels = sorted(glob.glob(os.path.join(folder, "zentorch-*.whl")))
    if not wheels:
        return None, None
    version = os.path.basename(wheels[-1]).split("-")[1].split(".")
    return "torch==%s.%s.*" % tuple(version[:2]), wheels[-1]


def install_ik(args):
    source, build = os.path.join(args.env, "ik"), os.path.join(args.env, "ik", "build")
    if not os.path.exists(os.path.join(source, "CMakeLists.txt")):
        os.makedirs(source, exist_ok=True)
        if os.path.exists(os.path.join(args.ik, "CMakeLists.txt")):
            attempt("ik, copy", "cp", "-r", args.ik + "/.", source)
        else:  # a git folder; what a snapshot leaves out are large files that the build does not read
            env = {**os.environ, "GIT_DIR": args.ik, "GIT_INDEX_FILE": os.path.abspath(source) + ".index"}
            attempt("ik, index", "git", "read-tree", "HEAD", env=env)
            attempt("ik, files", "git", "checkout-index", "-a", "-f", "-q", "--prefix=" + os.path.abspath(source) + "/", env=env)
    off = ["-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DGGML_IQK_FA_ALL_QUANTS=OFF"]
    attempt("ik, configure", "cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", *off,
            "-DCMAKE_C_FLAGS=-w", "-DCMAKE_CXX_FLAGS=-w")
    attempt("ik, build", "cmake", "--build", build, "--parallel", str(args.threads), "--target", "llama-bench",
            "llama-batched-bench", "llama-quantize")


def install(args):
    if not os.path.exists(python_of(args)):
        subprocess.run([sys.executable, "-m", "venv", args.env], check=True)
    pip = [python_of(args), "-m", "pip"]
    attempt("pip", *pip, "install", "-q", "-U", "pip")
    torch, wheel = zentorch_wheel(pip, os.path.join(args.env, "download"))
    attempt("PyTorch", *pip, "install", "-q", torch or "torch", "numpy")
    if wheel:
        attempt("zentorch", *pip, "install", "-q", wheel)
    attempt("OpenVINO", *pip, "install", "-q", "openvino", "nncf")
    attempt("transformers", *pip, "install", "-q", "transformers")
    attempt("llama-cpp-python", *pip, "install", "-q", "llama-cpp-python")
    reference = os.path.join(args.env, "reference")
    if not os.path.exists(reference):
        subprocess.run([sys.executable, "-m", "venv", reference], check=True)
    attempt("PyTorch, newest", os.path.join(reference, "bin", "python"), "-m", "pip", "install", "-q", "torch", "transformers")
    if args.ik:
        install_ik(args)
    return 0


# ---- files of the peers' forms

def file_of(args, name):
    return os.path.join(args.env, "files", name)


def random_model(args, folder, *sizes):
    tokenizer = args.tokenizer or args.model
    return attempt(os.path.basename(folder), python_of(args), os.path.join(HERE, "random_checkpoint.py"), "--preset", "release",
                   folder, "--tokenizer", tokenizer, *sizes)


def gguf_of(args, source, kind, target):
    """The language model of source in one type; the vision part's file is not wanted."""
    made = target + ".folder"
    ok = attempt(os.path.basename(target), args.ivchat, "quantize", source, made, "--type", kind, "--progress", "never")
    if ok:
        name = [n for n in os.listdir(made) if not n.startswith("mmproj-")][0]
        os.replace(os.path.join(made, name), target)
    shutil.rmtree(made, ignore_errors=True)
    return ok


def layers_of(args, bf16):
    small = file_of(args, "layers")
    ok = random_model(args, small, "--llm-layers", str(args.layers), "--vit-depth", "2", "--vit-ffn", "1408", "--qf-layers", "2")
    ok = ok and gguf_of(args, small, "BF16", bf16)
    shutil.rmtree(small, ignore_errors=True)
    return ok


def iq4_of(args, bf16, target):
    """--pure: the output matrix too, so that times are multiplied rightly."""
    program = os.path.join(args.env, "ik", "build", "bin", "llama-quantize")
    ok = attempt("IQ4_K.gguf", program, "--pure", bf16, target + ".part", "IQ4_K", str(args.threads))
    if ok:
        os.replace(target + ".part", target)
    return ok


def files(args):
    """Each is made only if it is not there yet."""
    os.makedirs(file_of(args, ""), exist_ok=True)
    bf16, iq4, q4, one = (file_of(args, name) for name in ("BF16.gguf", "IQ4_K.gguf", "Q4_0.gguf", "one"))
    ok = os.path.exists(bf16) or layers_of(args, bf16)
    ok = (os.path.exists(iq4) or (os.path.exists(bf16) and iq4_of(args, bf16, iq4))) and ok
    ok = (os.path.exists(one) or random_model(args, one, "--llm-layers", "1", "--vit-depth", "2")) and ok
    if args.q4_0:
        ok = (os.path.exists(q4) or gguf_of(args, args.model, "Q4_0", q4)) and ok
    return 0 if ok else 1


# ---- the works

def as_long(args):
    """So often a peer's few layers take as long as all of ours once, and meet the same fast and slow seconds."""
    return max(1, DEPTH // args.layers)


class Work:
    """title; stages that are told; peak that rates are held against, None = as ivchat bench says; everybody, ours first.
    fresh: only one is open at a time. extra: stages of one of them that differ."""

    def __init__(self, title, stages, peak, everybody, fresh=True, beside=False, own=None):
        self.title, self.stages, self.peak, self.everybody = title, stages, peak, everybody
        self.fresh, self.beside, self.own = fresh, beside, own or {}

    def stages_of(self, who):
        return self.own.get(who.name, self.stages)


def need(args, work, *options):
    for option in options:
        if not getattr(args, option):
            raise SystemExit("bench_peers: %s needs --%s" % (work, option))


def vision(args):
    need(args, "vision", "model")
    yield Work("vision", ["vision"], "bf16_gflops", [Ours(args, "ivchat bf16", args.model)] + [
        Worker(args, how, "vision", how) for how in ("zentorch", "openvino-bf16", "eager")], fresh=False)


def vision_int8(args):
    need(args, "vision-int8", "model")
    yield Work("vision-int8", ["vision"], "int8_gops", [Ours(args, "ivchat int8", args.model, "--dtype", "int8"), Worker(
        args, "openvino-int8", "vision", "openvino-int8")], fresh=False)


def title_of(work, path):
    return "%s %s" % (work, os.path.basename(os.path.normpath(path)).replace(".gguf", ""))


def same_file(args, path, *more, peaks=False):
    """Ours, llama.cpp and ik on one GGUF file."""
    sessions = ["--sessions", str(args.sessions)]
    return [Ours(args, "ivchat", path, *args.ours.split(), *more, peaks=peaks), Worker(
        args, "llama.cpp", "llm", "llamacpp", "--gguf", path, *sessions), Ik(args, "ik", path)]


def release(args, *more, peaks=False, repeats=1, repacked=False):
    """Ours with the release's weights, and peers in BF16; of ik the weights in its own order as well, if asked for."""
    path = file_of(args, "BF16.gguf")
    again = ["--sessions", str(args.sessions), "--repeats", str(repeats)]
    ik = {"short": True, "repeats": max(3, repeats)}
    return [Ours(args, "ivchat bf16 with LoRA", args.model, *more, peaks=peaks), Worker(
        args, "llama.cpp BF16", "llm", "llamacpp", "--gguf", path, *again), Ik(args, "ik BF16", path, **ik)] + [
        Ik(args, "ik BF16 repacked", path, repack=True, **ik)] * repacked


def prefill(args):
    if args.model:
        yield Work(title_of("prefill", args.model), ["prefill"], "bf16_gflops", [
            Ours(args, "ivchat bf16 with LoRA", args.model), Ik(args, "ik BF16", file_of(args, "BF16.gguf"), short=True, repack=True),
            Worker(args, "PyTorch with LoRA", "llm", "lora")])
    for path in args.gguf or []:
        yield Work(title_of("prefill", path), ["prefill"], "int8_gops", same_file(args, path) + [
            Ik(args, "ik IQ4_K", file_of(args, "IQ4_K.gguf"), short=True)])


def decode(args):
    if args.model:
        yield Work(title_of("decode", args.model), ["decode"], "read_gbs", release(
            args, peaks=True, repeats=as_long(args), repacked=True))
    for path in args.gguf or []:
        yield Work(title_of("decode", path), ["decode"], "read_gbs", same_file(args, path, peaks=True), fresh=False)


def sessions(args):
    more, stages = ["--sessions", str(args.sessions)], ["decode", "sessions"]
    if args.model:
        yield Work(title_of("sessions", args.model), stages, "read_gbs", release(args, *more))
    for path in args.gguf or []:
        yield Work(title_of("sessions", path), stages, "read_gbs", same_file(args, path, *more), fresh=False)


def beside(args):
    if args.model:
        yield Work(title_of("beside", args.model), ["decode"], None, release(args), beside=True)
    for path in args.gguf or []:
        yield Work(title_of("beside", path), ["decode"], None, same_file(args, path), fresh=False, beside=True)


TURN = ["first-turn", "second-turn", "second-turn-warm"]
LLM = ["prefill", "decode"]


def reference_parts(args):
    return [Worker(args, "eager", "vision", "eager"), Worker(args, "PyTorch with LoRA", "llm", "lora")]


def turn_work(args, title, ours, peers):
    everybody = [ours, *peers, *reference_parts(args)]
    own = {who.name: ["vision"] if "vision" in getattr(who, "command", ()) else LLM for who in everybody[1:]}
    return Work(title, TURN, None, everybody, own=own)


def turn(args):
    need(args, "turn", "model", "video")
    ours = Ours(args, "ivchat bf16", args.model, "--video", str(args.video), new=args.new_turn, peaks=True,
                warm=True)
    yield turn_work(args, "turn", ours, [
        Worker(args, how, "vision", how) for how in ("zentorch", "openvino-bf16")] + [
        Ik(args, "ik BF16", file_of(args, "BF16.gguf"), short=True, repack=True, repeats=as_long(args), new=args.new_turn)])


def turn_int8(args):
    need(args, "turn-int8", "gguf", "video")
    ours = Ours(args, "ivchat int8", args.gguf[0], "--dtype", "int8", "--video", str(args.video), new=args.new_turn, peaks=True,
                warm=True)
    yield turn_work(args, title_of("turn-int8", args.gguf[0]), ours, [
        Worker(args, "openvino-int8", "vision", "openvino-int8"), Ik(args, "ik", args.gguf[0], new=args.new_turn // 3),
        Ik(args, "ik IQ4_K", file_of(args, "IQ4_K.gguf"), short=True, repeats=as_long(args), new=args.new_turn)])


def second(args):
    need(args, "second", "model", "video")
    yield Work("second", TURN, None, [Ours(args, "ivchat bf16", args.model, "--video", str(args.video), new=8, peaks=True,
                                            warm=True)])


def tiers(args):
    """A work for each stage: plain C takes minutes."""
    for tier in args.tiers.split(","):
        for stage in ("vision", "prefill", "decode"):
            yield Work("tiers %s %s" % (tier, stage), [stage], None, [
                Ours(args, "ivchat " + tier, file_of(args, "one"), "--cpu", tier, peaks=True)])


WORKS = {"vision": vision, "vision-int8": vision_int8, "prefill": prefill, "decode": decode, "sessions": sessions,
         "beside": beside, "turn": turn, "turn-int8": turn_int8, "second": second, "tiers": tiers}


# ---- rounds and their file

def program(args):
    with open(args.ivchat, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()[:12]


METHOD = 3  # of measuring: rounds of another one are not continued


def settings(args):
    keys = ("threads", "prompt", "context", "new", "new_turn", "layers", "sessions", "small", "ours")
    return {**{k: getattr(args, k) for k in keys}, "method": METHOD}


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def append(args, record):
    if args.out:
        with open(args.out, "a", encoding="utf-8") as f:
            f.write(json.dumps(record) + "\n")


def of_now(rounds, work, now):
    return [r for r in rounds if r["work"] == work.title and all(r.get(k) == v for k, v in now.items())]


def do_rounds(args, work, now, peaks, begun):
    """Whether all are there."""
    done = of_now(peer_table.load(args.out), work, now)
    everybody, longest = list(work.everybody), max([r["seconds"] for r in done], default=0.0)
    say("== %s" % work.title)
    if len(done) < args.rounds:
        known = [f for path in [*([args.model] if args.model else []), *(args.gguf or []), *glob.glob(file_of(args, "*.gguf"))] for f in model_files(path)]
        forget(set(known).difference(f for who in everybody for f in who.files))
    try:
        for number in range(len(done) + 1, args.rounds + 1):
            start = time.monotonic()
            if args.within and start - begun + longest * 1.1 > args.within:
                say("  no time for round %d" % number)
                return False
            if number == len(done) + 1 and not work.fresh:
                everybody = [w for w in everybody if opened(w)]
            runs = one_round(everybody, work, peaks, number)
            longest = max(longest, time.monotonic() - start)
            if work.everybody[0].name not in runs:
                return False
            record = {"work": work.title, "stages": work.stages, "peak": work.peak, "clips": args.clips, "processor": processor(),
                      "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                      "seconds": time.monotonic() - start, **now, "runs": runs}
            append(args, record)
            done.append(record)
    finally:
        for who in everybody:
            who.close()
    peer_table.show(done)
    return True


def opened(who):
    try:
        who.open()
        return True
    except (RuntimeError, OSError) as error:
        say("  left out: %s" % error)
        return False


def run(args):
    wanted = args.only.split(",") if args.only else list(WORKS)
    for w in wanted:
        if w not in WORKS:
            raise SystemExit("bench_peers: no work %s; there are %s" % (w, ", ".join(WORKS)))
    works = [work for w in wanted for work in WORKS[w](args)]
    now, peaks, begun = {"program": program(args), "settings": settings(args)}, Peaks(args), time.monotonic()
    missing = [work.title for work in works if not do_rounds(args, work, now, peaks, begun)]
    if missing:
        say("missing: %s" % ", ".join(missing))
    return MORE_TO_DO if missing else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("install", "files", "run", "table"))
    parser.add_argument("--env", metavar="DIR", help="scratch environment")
    parser.add_argument("--ik", metavar="SOURCE", help="install: ik_llama.cpp, a source tree or git folder")
    parser.add_argument("--ivchat", default=os.path.join(HERE, "..", "build", "ivchat"))
    parser.add_argument("--model", metavar="DIR", help="full-size model")
    parser.add_argument("--tokenizer", metavar="DIR", help="files: whose tokenizer; default MODEL's")
    parser.add_argument("--q4-0", action="store_true", help="files: Q4_0.gguf of MODEL, too")
    parser.add_argument("--gguf", metavar="FILE", action="append", help="language model for ours, llama.cpp and ik; repeatable")
    parser.add_argument("--video", metavar="FILE")
    parser.add_argument("--only", help="of " + ",".join(WORKS))
    parser.add_argument("--ours", default="", help="more options for ivchat bench on a --gguf")
    parser.add_argument("--tiers", default="avx2,ref")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--within", type=float, metavar="S", help="begin no round that would not end in S seconds")
    parser.add_argument("--patience", type=float, default=600, metavar="S", help="longest run of one of them")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=322)
    parser.add_argument("--context", type=int, default=32, help="tokens in front of those decoded")
    parser.add_argument("--new", type=int, default=16, help="tokens decoded in a run")
    parser.add_argument("--new-turn", type=int, default=100, help="of a first turn")
    parser.add_argument("--clips", type=int, default=3, help="of the video")
    parser.add_argument("--layers", type=int, default=4, help="layers of the language model in PyTorch, BF16 and IQ4_K")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="peers at toy sizes, to see that everything runs")
    parser.add_argument("--out", metavar="FILE", help="lines of JSON, a round each")
    parser.add_argument("--json", action="store_true", help="table: as one JSON object")
    args = parser.parse_args()
    if args.job != "table" and not args.env:
        parser.error("%s needs --env" % args.job)
    if args.job == "files" and not args.model:
        parser.error("files needs --model")
    if args.job == "run" and not args.model and not args.gguf:
        parser.error("run needs --model or --gguf")
    if args.job == "table":
        rounds = peer_table.newest(peer_table.load(args.out))
        return peer_table.show_json(rounds) if args.json else peer_table.show(rounds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception: whoever runs is ended too
    return {"install": install, "files": files, "run": run}[args.job](args)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ivchat beside the fastest other engines on this machine's CPU, run in turns: A B C A B C.

  tools/bench_peers.py install --env DIR [--ik SOURCE]
  tools/bench_peers.py run --env DIR --model DIR [--gguf FILE...] [--video FILE] [--only WORK,...] [--out FILE.json]
  tools/bench_peers.py table --out FILE.json

install makes a scratch environment: PyTorch in the version that zentorch wants, zentorch, OpenVINO and nncf, transformers,
llama-cpp-python, and with --ik (a source tree or git folder of ik_llama.cpp) its llama-bench. What cannot be had is told and
left out. About 7 GB.

run measures, with the full-size MODEL (tools/random_checkpoint.py makes one of random weights):
  vision     one clip in bf16: eager PyTorch (how the reference runs), zentorch, OpenVINO
  int8       the same in int8: OpenVINO with nncf
  llm        prefill and decoding in bf16: PyTorch, with and without LoRA; ik on --ik-gguf
  gguf       prefill and decoding of each --gguf FILE: llama.cpp, ik
  sessions   --sessions conversations at once beside one (ours alone), of the model and of each --gguf
  beside     decoding with another process that is busy all the time, as a share of that without; ours and ik
  turn       a whole first turn and the second turn to its first token (ours alone)

Peers run 4 of 39 vision blocks and --layers of 32 layers, scaled; ours, llama.cpp and ik run whole models, but for an --ik-gguf
NAME=FILE@LAYERS of fewer layers, which is scaled too. Each round measures everybody once and this machine's peaks before and after
ours; ratios are those of a round, of which the median is told. --out gathers several runs; the last of a work counts.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS, HEAD_SHARE = 32, 0.0188  # of a token's weights that are in the output matrix


def say(text):
    print(text, flush=True)


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
    attempt("ik, build", "cmake", "--build", build, "--parallel", str(args.threads), "--target", "llama-bench")


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
    if args.ik:
        install_ik(args)
    return 0


# ---- whoever is measured: name, once() -> {"vision": ms, "prefill": ms, "decode": ms ...}

class Worker:
    """A peer in a process of its own (peer_cpu.py), which keeps what it prepared from run to run."""

    def __init__(self, args, name, work, how, *more):
        self.name, self.work = name, work
        self.process = subprocess.Popen(
            [python_of(args), os.path.join(HERE, "peer_cpu.py"), work, how, "--threads", str(args.threads), "--prompt",
             str(args.prompt), "--layers", str(args.layers), *(["--small"] if args.small else []), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.about = self.line("ready")
        self.name += " (%s)" % self.about["ready"]

    def line(self, *keys):
        for text in self.process.stdout:
            if text.startswith("{"):
                answer = json.loads(text)
                if any(k in answer for k in keys):
                    return answer
        raise RuntimeError("%s: ended without an answer" % self.name)

    def once(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self.line("ms", "prefill_ms")
        if "ms" in answer:
            return {"vision": answer["ms"] * self.about["scale"]}
        return {"prefill": answer["prefill_ms"], "decode": answer["decode_ms"]}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Ik:
    def __init__(self, args, name, path, more=()):
        self.args, self.name, self.more = args, name, more
        self.path, _, layers = path.partition("@")
        self.scale = LAYERS / int(layers) if layers else 1.0
        self.program = os.path.join(args.env, "ik", "build", "bin", "llama-bench")
        if not os.path.exists(self.program):
            raise RuntimeError("no llama-bench of ik_llama.cpp in the environment")

    def once(self, prompt=True):
        a = self.args
        out = subprocess.run([self.program, "-m", self.path, "-t", str(a.threads), "-p", str(a.prompt if prompt else 0), "-n",
                              str(a.new), "-r", "1", "-fa", "1", "-o", "json", *self.more], check=True, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True, timeout=600).stdout
        times = {}
        for row in json.loads(out[out.index("["):]):
            if row["n_prompt"]:
                times["prefill"] = 1e3 * row["n_prompt"] / row["avg_ts"] * self.scale
            else:  # the head is not scaled
                ms = 1e3 / row["avg_ts"]
                head = ms * HEAD_SHARE / (HEAD_SHARE + (1 - HEAD_SHARE) / self.scale)
                times["decode"] = head + (ms - head) * self.scale
        return times

    def close(self):
        pass


class Ours:
    def __init__(self, args, name, model, stages, *more, repeat=1):
        self.args, self.name, self.stages = args, name, stages
        self.command = [args.ivchat, "bench", "-m", model, "-t", str(args.threads), "--json", "--progress", "never", "--quiet",
                        "--repeat", str(repeat), "-n", str(args.new), "--prompt-tokens", str(args.prompt), *more]
        for stage in stages:
            self.command += ["--stage", stage]

    def once(self):
        done = subprocess.run(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError("%s: %s" % (self.name, done.stderr.strip()))
        told = json.loads(done.stdout)
        times = {s["stage"]: s["median_ms"] for s in told["stages"]}
        times["detail"] = [{k: s.get(k) for k in ("stage", "median_ms", "runs", "gflops", "gbs", "share", "bound", "tokens_per_s",
                                                  "peaks_before", "peaks_after")} for s in told["stages"]]
        return times

    def close(self):
        pass


def some(make, *args, **kwargs):
    """[the one that make makes], or [] with a word why not."""
    try:
        return [make(*args, **kwargs)]
    except (RuntimeError, OSError) as error:
        say("left out: %s" % error)
        return []


# ---- the works: (title, stages that are compared, everybody, ours first)

def vision(args):
    ours = Ours(args, "ivchat bf16", args.model, ["vision"])
    yield "vision", ["vision"], lambda: [ours] + [w for how in args.vision.split(",")
                                                  for w in some(Worker, args, how, "vision", how)]


def int8(args):
    ours = Ours(args, "ivchat int8", args.model, ["vision", "prefill"], "--dtype", "int8")
    yield "int8", ["vision"], lambda: [ours] + some(Worker, args, "OpenVINO int8", "vision", "openvino-int8")


def llm(args):
    ours = Ours(args, "ivchat bf16", args.model, ["prefill", "decode"])
    peers = [w for how in args.llm.split(",") if how for w in [(how,)]]
    yield "llm", ["prefill", "decode"], lambda: (
        [ours] + [x for (how,) in peers for x in some(Worker, args, "PyTorch " + how, "llm", how)]
        + [x for name, path, more in ik_files(args) for x in some(Ik, args, "ik " + name, path, more)])


def ik_files(args):
    """--ik-gguf NAME=FILE[@LAYERS][,repack]"""
    for text in args.ik_gguf or []:
        name, _, path = text.partition("=")
        path, _, repack = path.partition(",")
        yield name, path, ["-rtr", "1"] if repack else []


def gguf(args):
    for path in args.gguf or []:
        name = os.path.basename(path)
        yield "gguf " + name, ["prefill", "decode"], lambda path=path, name=name: (
            [Ours(args, "ivchat", path, ["prefill", "decode"], *args.ours.split())]
            + some(Worker, args, "llama.cpp", "llm", "llamacpp", "--gguf", path) + some(Ik, args, "ik", path)
            + [x for other, file, more in ik_files(args) for x in some(Ik, args, "ik " + other, file, more)])


def sessions(args):
    for path in [args.model, *(args.gguf or [])]:
        yield "sessions " + os.path.basename(path), ["decode", "sessions"], lambda path=path: [
            Ours(args, "ivchat", path, ["decode", "sessions"], "--sessions", str(args.sessions), *args.ours.split())]


def turn(args):
    if not args.video:
        raise SystemExit("bench_peers: turn needs --video")
    yield "turn", ["first-turn", "second-turn", "second-turn-warm"], lambda: [
        Ours(args, "ivchat", args.model, ["first-turn"], "--stage", "second-turn", "--stage", "second-turn-warm", "--video",
             args.video, *args.ours.split())]


def beside(args):
    """Not in turns with others: with and without a busy process."""
    for path in args.gguf or [args.model]:
        everybody = [Ours(args, "ivchat", path, ["decode"], "--no-peaks")]
        everybody += some(Ik, args, "ik", path) if path.endswith(".gguf") else []
        rows = []
        for _ in range(args.rounds):
            row = {}
            for who in everybody:
                once = who.once if isinstance(who, Ours) else lambda who=who: who.once(prompt=False)
                alone = once()["decode"]
                busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                try:
                    row[who.name] = {"alone": alone, "beside": once()["decode"]}
                except subprocess.TimeoutExpired:
                    row[who.name] = {"alone": alone, "beside": None}
                finally:
                    busy.kill()
                    busy.wait()
            rows.append(row)
            say(json.dumps(row))
        yield "beside " + os.path.basename(path), rows


WORKS = {"vision": vision, "int8": int8, "llm": llm, "gguf": gguf, "sessions": sessions, "turn": turn}


def measure(args, everybody):
    rounds = []
    for i in range(args.rounds):
        row = {}
        for who in everybody:
            start = time.monotonic()
            row[who.name] = who.once()
            say("  round %d  %-48s %s  (%.0f s)" % (i + 1, who.name, "  ".join(
                "%s %.1f ms" % (k, v) for k, v in row[who.name].items() if k != "detail"), time.monotonic() - start))
        rounds.append(row)
    return rounds


def save(args, results):
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


def load(args):
    if args.out and os.path.exists(args.out):
        with open(args.out, encoding="utf-8") as f:
            return json.load(f)
    return {}


def run(args):
    results = load(args)
    wanted = args.only.split(",") if args.only else [*WORKS, "beside"]
    unknown = [w for w in wanted if w not in WORKS and w != "beside"]
    if unknown:
        raise SystemExit("bench_peers: no work %s; there are %s, beside" % (unknown[0], ", ".join(WORKS)))
    for work in wanted:
        if work == "beside":
            for title, rows in beside(args):
                results[title] = {"beside": rows}
                save(args, results)
            continue
        for title, stages, make in WORKS[work](args):
            say("== " + title)
            everybody = make()
            try:
                results[title] = {"stages": stages, "rounds": measure(args, everybody)}
                save(args, results)
            except RuntimeError as error:
                say("left out: %s" % error)
            finally:
                for who in everybody:
                    who.close()
    table(results)
    return 0


# ---- telling

def ratios(rounds, ours, other, stage):
    return [r[other][stage] / r[ours][stage] for r in rounds if stage in r[other] and r[ours].get(stage)]


def table(results):
    for title, work in results.items():
        say("\n" + title)
        if "beside" in work:
            for name in work["beside"][0]:
                pairs = [r[name] for r in work["beside"]]
                kept = [p["alone"] / p["beside"] if p["beside"] else 0 for p in pairs]
                say("  %-52s keeps %.0f %% [%s]" % (name, 100 * statistics.median(kept), " ".join("%.0f" % (100 * k) for k in kept)))
            continue
        rounds = work["rounds"]
        names = list(rounds[0])
        ours = names[0]
        for stage in work["stages"]:
            for name in names:
                ms = [r[name][stage] for r in rounds if stage in r[name]]
                if not ms:
                    continue
                line = "  %-18s %-52s %10.1f ms" % (stage, name, statistics.median(ms))
                if name == ours:
                    details = [d for r in rounds for d in r[name]["detail"] if d["stage"] == stage]
                    shares = [d["share"] for d in details if d["share"]]
                    rates = [d["tokens_per_s"] for d in details if d["tokens_per_s"]]
                    line += "  %.1f tokens/s" % statistics.median(rates) if rates else ""
                    line += "  %.0f %% of the limit (%s)" % (100 * statistics.median(shares), details[0]["bound"]) if shares else ""
                else:
                    r = ratios(rounds, ours, name, stage)
                    line += "  ivchat is %.2f x [%s]" % (statistics.median(r), " ".join("%.2f" % x for x in r))
                say(line)
        if "sessions" in work["stages"]:
            gain = [[d for d in r[ours]["detail"] if d["stage"] == "sessions"][0]["tokens_per_s"] * r[ours]["decode"] / 1e3 for r in rounds]
            say("  together %.2f x one [%s]" % (statistics.median(gain), " ".join("%.2f" % g for g in gain)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("install", "run", "table"))
    parser.add_argument("--env", metavar="DIR", help="scratch environment")
    parser.add_argument("--ik", metavar="SOURCE", help="install: ik_llama.cpp, a source tree or git folder")
    parser.add_argument("--ivchat", default=os.path.join(HERE, "..", "build", "ivchat"))
    parser.add_argument("--model", metavar="DIR", help="full-size model")
    parser.add_argument("--gguf", metavar="FILE", action="append", help="language model for ours, llama.cpp and ik; repeatable")
    parser.add_argument("--ik-gguf", metavar="NAME=FILE[@LAYERS][,repack]", action="append", help="another one for ik alone")
    parser.add_argument("--video", metavar="FILE")
    parser.add_argument("--only", help="of %s,beside" % ",".join(WORKS))
    parser.add_argument("--vision", default="eager,zentorch,openvino-bf16", help="peers of vision")
    parser.add_argument("--llm", default="eager,lora", help="PyTorch's forms in llm")
    parser.add_argument("--ours", default="", help="more options for ivchat bench in gguf, sessions and turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=322)
    parser.add_argument("--new", type=int, default=16, help="tokens decoded in a run")
    parser.add_argument("--layers", type=int, default=8, help="layers of the language model in PyTorch")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="peers at toy sizes, to see that everything runs")
    parser.add_argument("--out", metavar="FILE")
    args = parser.parse_args()
    if args.job != "table" and not args.env:
        parser.error("%s needs --env" % args.job)
    if args.job == "run" and not args.model:
        parser.error("run needs --model")
    if args.job == "table":
        table(load(args))
        return 0
    return install(args) if args.job == "install" else run(args)


if __name__ == "__main__":
    sys.exit(main())

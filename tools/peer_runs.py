#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whoever tools/bench_peers.py measures, and rounds of them.

Everybody has name, about, open(), once(stages) -> {stage: ms} of the whole model, close(). A round measures everybody once,
with this machine's peaks before and after each:

  peaks A peaks B peaks C peaks

Easy to get wrong: what a peer is given must be in memory before it is timed, and memory must hold all that is open at once;
a program's first run maps memory, so each makes one that does not count (a whole turn of ours does not: it is to have that).
"""
import json
import os
import re
import resource
import select
import statistics
import subprocess
import sys
import time

from peer_cpu import whole_model

HERE = os.path.dirname(os.path.abspath(__file__))
DEPTH = 32  # layers of the language model
MOSTLY_THERE = 1 << 30  # bytes; whoever read more from the disk did not have its weights in memory
AGAIN = 15  # s; a run that took less is made once more if it was disturbed


class TooSlow(Exception):
    """Did not end in the time that was given."""


def say(text):
    print(text, flush=True)


def output_of(command, patience, folder=None):
    """Both streams, as text; folder: where it runs."""
    try:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise TooSlow() from error
    if done.returncode:
        raise RuntimeError("%s: %s" % (os.path.basename(command[0]), (done.stderr.strip() or "failed").splitlines()[-1][:300]))
    return done.stdout, done.stderr


def model_files(path):
    """Of a model: a folder of them, or a GGUF file and the one with the vision part."""
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        return [os.path.join(path, n) for n in sorted(os.listdir(path))]
    vision = os.path.join(folder, "mmproj-" + name)
    return [p for p in (path, vision) if os.path.exists(p)]


def read_into_memory(names):
    block = bytearray(16 << 20)
    for name in names:
        with open(name, "rb", buffering=0) as f:
            while f.readinto(block):
                pass


def forget(names):
    """Memory that holds files nobody needs just now is better used for those that are."""
    for name in names:
        with open(name, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Party:
    """What they have in common; files: what it reads from."""
    about, files = "", ()

    def open(self):
        pass

    def close(self):
        pass


class Ours(Party):
    def __init__(self, args, name, model, *more, new=None, peaks=False, warm=False):
        self.args, self.name, self.files, self.warm = args, name, model_files(model), warm
        self.command = [args.ivchat, "bench", "-m", model, "-t", str(args.threads), "--json", "-v", "--progress", "never", "--repeat",
                        "1", "-n", str(new or args.new), "--prompt-tokens", str(args.prompt), "--context", str(args.context),
                        *([] if peaks else ["--no-peaks"]), *more]
        self.detail = self.note = None
        self.seen = self.last_read = 0
        self.read_bytes()

    def read_bytes(self):
        """From the disk, by the programs that ended since the last call."""
        now = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock * 512
        self.seen, self.last_read = now, now - self.seen
        return self.last_read

    def open(self):
        if self.warm:
            read_into_memory(self.files)

    def once(self, stages):
        self.read_bytes()
        command = list(self.command)
        for stage in stages:
            command += ["--stage", stage]
        out, self.note = output_of(command, self.args.patience)
        if self.read_bytes() > MOSTLY_THERE:  # part of it had to be fetched; now it is there
            say("  %s read %.1f GB from the disk; once more" % (self.name, self.last_read / 1e9))
            out, self.note = output_of(command, self.args.patience)
            self.read_bytes()
        keys = ("stage", "flop", "bytes", "share", "bound", "tokens_per_s", "read_gbs", "peaks_before", "peaks_after")
        told = json.loads(out)["stages"]
        self.detail = [{**{k: s.get(k) for k in keys}, "read_bytes": self.last_read} for s in told]
        ms = {s["stage"]: s["median_ms"] for s in told}
        found = re.search(r"prefill \d+ ms of (\d+) tokens, (\d+) ms for (\d+) tokens; second: (\d+) of (\d+) kept", self.note)
        if found and "first-turn" in ms:  # to its first token; and how much of the second had to be computed
            ms["first-token"] = ms["first-turn"] - float(found.group(2))
            self.about = "prompts %s, %s tokens, %s kept" % (found.group(1), found.group(5), found.group(4))
        return ms


class Worker(Party):
    """A peer in a process of its own (peer_cpu.py), which keeps what it prepared from run to run. The reference's way has an
    environment of its own: zentorch wants an older PyTorch, which is slower at it."""

    def __init__(self, args, name, work, how, *more):
        self.args, self.name, self.process, self.rest = args, name, None, b""
        self.files = [path for option, path in zip(more, more[1:]) if option == "--gguf" and os.path.exists(path)]
        python = os.path.join(args.env, "reference", "bin", "python")
        if how not in ("eager", "lora") or not os.path.exists(python):
            python = os.path.join(args.env, "bin", "python")
        self.command = [python, os.path.join(HERE, "peer_cpu.py"), work, how, "--threads",
                        str(args.threads), "--prompt", str(args.prompt), "--context", str(args.context), "--new", str(args.new),
                        "--layers", str(args.layers), *(["--small"] if args.small else []), *more]

    def open(self):
        if self.process:
            return
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.about = self.answer("ready")

    def answer(self, key):
        end = time.monotonic() + self.args.patience
        while True:
            line, found, self.rest = self.rest.partition(b"\n")
            if found:
                if line.startswith(b"{") and key in json.loads(line):
                    return json.loads(line)[key]
                continue
            self.rest = line
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                self.process.kill()
                self.close()
                raise TooSlow()
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                self.close()
                raise RuntimeError("%s: ended without an answer" % self.name)
            self.rest += got

    def once(self, stages):
        self.open()
        self.process.stdin.write((" ".join(stages) + "\n").encode())
        self.process.stdin.flush()
        return self.answer("ms")

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
        self.process, self.rest = None, b""


class Ik(Party):
    """ik_llama.cpp's own programs on one file, of --layers layers if short. Of a prompt the median of its repeats is told, since
    the first one maps memory; of steps, new or --new of them each time, the mean, since a turn is made of fast and slow ones."""

    def __init__(self, args, name, path, short=False, repack=False, repeats=3, new=None):
        self.args, self.name, self.path = args, name, os.path.abspath(path)
        self.repeats, self.new = repeats, new or args.new
        self.build = os.path.abspath(os.path.join(args.env, "ik", "build"))  # its programs leave a llama.log where they run
        self.files = [path] if os.path.exists(path) else []
        self.layers = args.layers if short and not args.small else DEPTH
        self.repack = repack
        self.about = "repacked" if repack else ""
        if self.layers != DEPTH:
            self.about += "%s%d of %d layers" % (", " if repack else "", self.layers, DEPTH)

    def program(self, name):
        path = os.path.join(self.build, "bin", name)
        if not os.path.exists(path):
            raise RuntimeError("no %s of ik_llama.cpp in the environment" % name)
        return path

    def open(self):
        self.program("llama-bench")

    def tokens(self, prompt, new):
        a = self.args
        out = output_of([self.program("llama-bench"), "-m", self.path, "-t", str(a.threads), "-p", str(prompt), "-n", str(new),
                         "-r", str(self.repeats), "-fa", "1", "-o", "json", "-rtr", str(int(self.repack))], a.patience, self.build)[0]
        ms = {}
        for row in json.loads(out[out.index("["):]):
            times = [1e-6 * ns for ns in row["samples_ns"]]
            if row["n_prompt"]:
                ms["prefill"] = statistics.median(times)
            else:
                ms["decode"] = statistics.fmean(times) / row["n_gen"]
        return ms

    def crowd(self):
        a, sizes = self.args, [1, self.args.sessions]
        room = a.sessions * (a.context + a.new)
        out = "".join(output_of([self.program("llama-batched-bench"), "-m", self.path, "-t", str(a.threads), "-fa", "1", "-c",
                                 str(room), "-npp", str(a.context), "-ntg", str(a.new), "-npl", "%d,%d" % tuple(sizes)],
                                a.patience, self.build))
        rows = [[float(x) for x in line.split("|")[1:-1]] for line in out.splitlines() if re.match(r"\|\s*\d+ \|", line)]
        step = {int(r[2]): 1e3 * r[6] / r[1] for r in rows}
        return {"decode": step[1], "sessions": step[a.sessions]}

    def once(self, stages):
        if "sessions" in stages:
            ms = self.crowd()
        else:
            short = self.layers != DEPTH
            ms = self.tokens(self.args.prompt if "prefill" in stages else 0, self.new if short or "decode" in stages else 0)
        ms = whole_model(ms, self.layers)
        return {k: ms[k] for k in stages if k in ms}


# ---- rounds

def disturbed(peaks, best):
    """Now and then a host gives two threads the rate of one, for seconds."""
    return peaks["f32_gflops"] < 0.9 * best


class Peaks:
    """Of this machine, measured by our own program."""

    def __init__(self, args):
        self.command = [args.ivchat, "bench", "--stage", "peaks", "-t", str(args.threads), "--json", "--quiet"]

        self.best = 0.0

    def now(self):
        peaks = json.loads(output_of(self.command, 60)[0])["peaks"]
        self.best = max(self.best, peaks["f32_gflops"])
        return peaks

    def disturbed(self, *around):
        return any(disturbed(p, self.best) for p in around)


class Busy:
    """Another process that uses one core all the time."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def run_of(who, stages, beside):
    start = time.monotonic()
    ms = who.once(stages)
    run = {"ms": ms, "seconds": time.monotonic() - start}
    if beside:
        with Busy():
            start = time.monotonic()
            try:
                ms.update({k + "-beside": v for k, v in who.once(stages).items()})
            except TooSlow:  # what it then keeps is at most the quiet run's part of the time it had
                run["too_slow"] = time.monotonic() - start
    return run


def told(ms):
    return "  ".join("%s %.1f" % (k, v) for k, v in ms.items())


def one_round(everybody, work, peaks, number):
    """{name: run}. Who fails is left out of this round and told."""
    runs = {}
    before = None
    for who in everybody:
        try:
            if work.fresh:
                forget(set(f for w in everybody for f in w.files).difference(who.files))
                who.open()
                before = None
            before = before or peaks.now()
            run = run_of(who, work.stages_of(who), work.beside)
            after = peaks.now()
            if peaks.disturbed(before, after) and run["seconds"] < AGAIN:
                say("  disturbed: %s %s ms; once more" % (who.name, told(run["ms"])))
                before = after
                run = run_of(who, work.stages_of(who), work.beside)
                after = peaks.now()
        except (RuntimeError, OSError) as error:
            say("  left out: %s" % error)
            before = None
            continue
        except TooSlow:
            say("  left out: %s did not end in time" % who.name)
            before = None
            continue
        finally:
            if work.fresh:
                who.close()
        run.update(before=before, after=after, about=who.about)
        if getattr(who, "detail", None):
            run["detail"] = who.detail
        before, runs[who.name] = after, run
        say("  round %d  %-34s %s ms  (%.0f s)" % (number, who.name, told(run["ms"]), run["seconds"]))
    return runs

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every test of the project, in phases; the last line printed is "N passed, N failed, N skipped".

  tests/run_tests.py [--list] [--jobs N] [--fuzz-seconds N] [--soak MINUTES] [PHASE...]

A phase configures and builds one CMake preset, then runs the programs that ctest knows there (labels:
the folder under tests/, "threads", "house"). Single tests are counted, not programs (tap.py). What
could not be built or run at all counts as failed; what this machine cannot do counts as skipped, with
the reason. Exit status 1 when anything failed, when nothing ran, or, with CI=true in the environment,
when a test was skipped for want of the golden data beside the checkout.

Phases go side by side, so that no processor is idle: one builds while programs of those built before run, and
--jobs limits compilers and programs together (class Slots). Each line names its phase; seconds are of the clock,
and cpu those of processors, which do not hang on what else runs.

Kept: build*/test-logs/<phase>-<program>.log and build/test-logs/summary.json.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD_LOG_LINES = 60


class Slots:
    """What runs at a time: `jobs` compilers and programs, and beside them one program that mostly waits. One preset is
    built at a time, the phase listed first first; it takes half of the slots, and what else is free when it begins."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.free = threading.Semaphore(jobs)
        self.lane = threading.Lock()
        self.turn = threading.Condition()
        self.phases = []  # that may want to build, in order
        self.building = False
        self.done = set()  # (preset, targets) that are built

    @contextlib.contextmanager
    def program(self, waits):
        with self.lane if waits and self.jobs > 1 else self.free:
            yield

    @contextlib.contextmanager
    def build(self, phase, preset, targets):
        """With the number of compilers to run; 0 = that is built."""
        def done():
            return (preset, tuple(targets)) in self.done or (preset, ()) in self.done

        def first():
            return not self.building and next(p for p in self.phases if p.wants_build) is phase
        with self.turn:
            phase.wants_build = True
            self.turn.wait_for(lambda: done() or first())
            phase.wants_build = False
            needed = not done()
            self.building = self.building or needed
            self.turn.notify_all()  # who comes behind this phase may be first now
        if not needed:
            yield 0
            return
        taken = max(1, self.jobs // 2)
        for _ in range(taken):
            self.free.acquire()
        while taken < self.jobs and self.free.acquire(blocking=False):
            taken += 1
        try:
            yield taken
        finally:
            self.free.release(taken)
            with self.turn:
                self.building = False
                self.turn.notify_all()


PRINTING = threading.Lock()


class Phase:
    """Results of one phase while it runs."""

    def __init__(self, name, options, slots=None):
        self.name = name
        self.options = options
        self.slots = slots or Slots(1)
        self.slots.phases.append(self)
        self.results = []
        self.cpu = 0.0
        self.wants_build = False

    def total(self, what):
        return sum(getattr(r, what) for r in self.results)

    def say(self, text):
        with PRINTING:
            print("%-9s %s" % (self.name, text), flush=True)

    def add(self, result, notes=()):
        line = "%-26s %4d passed" % (result.name, result.passed)
        if result.failed:
            line += ", %d FAILED" % result.failed
        if result.skipped:
            line += ", %d skipped" % result.skipped
        rows = ["%s  %.1f s, cpu %.1f" % (line, result.seconds, result.cpu)]
        for test, text in result.failures:
            rows += ["    FAILED " + test, *["      " + row for row in text.splitlines()]]
        rows += ["    SKIP " + reason for reason in notes]
        self.say("\n".join(rows))
        self.results.append(result)
        self.cpu += result.cpu

    def note_fail(self, name, text):
        result = tap.Result(name)
        result.fail("(%s)" % name, text)
        self.add(result)

    def note_skip(self, name, reason):
        result = tap.Result(name)
        result.skip(name, reason)
        self.add(result, [reason])


def capture(command):
    """Exit status, output and processor seconds."""
    try:
        proc = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        return 127, str(error), 0.0
    out, status, cpu = tap.finish(proc)
    return status, out.decode("utf-8", "replace"), cpu


def build(phase, preset, targets=(), options=()):
    """True when preset is configured and built; otherwise the phase has a failure with the log's end."""
    with phase.slots.build(phase, preset, targets) as jobs:
        if not jobs:
            return True
        start, spent = time.monotonic(), 0.0
        for what, command in (
                ("configure", ["cmake", "--preset", preset, *options]),
                ("build", ["cmake", "--build", "--preset", preset, "--parallel", str(jobs)]
                 + (["--target", *targets] if targets else []))):
            status, log, cpu = capture(command)
            phase.cpu += cpu
            spent += cpu
            if status != 0:
                told = [line for line in log.splitlines() if not re.match(r"\[\d+/\d+\] ", line)]
                phase.note_fail("%s %s" % (what, preset), "\n".join(told[-BUILD_LOG_LINES:]))
                return False
        phase.say("built preset %s  %.0f s, cpu %.0f" % (preset, time.monotonic() - start, spent))
        phase.slots.done.add((preset, tuple(targets)))
    return True


def build_variant(phase, preset, targets):
    """build() of a preset that differs from release in a few files of the library: all others are compiled once."""
    return build(phase, "release", ["ivchat_app"]) and build(
        phase, preset, targets, ["-DIV_OBJECTS=" + os.path.join(ROOT, "build")])


def listed(build_dir):
    """[(name, command, labels, timeout, env)] of the tests ctest knows in build_dir, the longest (by COST) first."""
    status, log, _ = capture(["ctest", "--test-dir", build_dir, "--show-only=json-v1"])
    if status != 0:
        raise RuntimeError("ctest in %s: %s" % (build_dir, log.strip()))
    tests, cost = [], {}
    for test in json.loads(log[log.index("{"):])["tests"]:
        prop = {p["name"]: p["value"] for p in test.get("properties", [])}
        cost[test["name"]] = float(prop.get("COST", 0))
        env = dict(pair.split("=", 1) for pair in prop.get("ENVIRONMENT", []))
        tests.append((test["name"], test.get("command"), set(prop.get("LABELS", [])),
                      float(prop.get("TIMEOUT", 600)), env))
    return sorted(tests, key=lambda test: -cost[test[0]])


def run_programs(phase, build_dir, tests, prefix=(), extra=(), slower=1):
    """Runs tests of listed() side by side, those labelled "waits" one by one beside the others; prefix = an emulator,
    slower = factor on the time limits."""
    logs = os.path.join(ROOT, build_dir, "test-logs")
    os.makedirs(logs, exist_ok=True)

    def one(test):
        name, command, _, timeout, env = test
        if not command or not os.path.exists(command[0]) and not shutil.which(command[0]):
            result = tap.Result(name)
            result.fail("(not built)", "")
            return result
        full = [*prefix, *command, *extra]
        with phase.slots.program("waits" in test[2]):
            result = tap.run(name, full, env, timeout * slower, ROOT)
            if "unexpected memory mapping" in result.output and shutil.which("setarch"):
                # ThreadSanitizer of gcc 12 cannot live with the address randomisation of newer kernels
                result = tap.run(name, ["setarch", "-R", *full], env, timeout * slower, ROOT)
        with open(os.path.join(logs, phase.name + "-" + name + ".log"), "w", encoding="utf-8") as log:
            log.write(result.output)
        return result

    if not tests:
        phase.note_fail(phase.name, "no test found in " + build_dir)
    jobs = phase.options.jobs
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool, concurrent.futures.ThreadPoolExecutor(1) as lane:
        running = [(lane if jobs > 1 and "waits" in t[2] else pool).submit(one, t) for t in tests]
        for done in concurrent.futures.as_completed(running):
            phase.add(done.result())


# what a program is told where everything is slow (emulators, sanitizers): fewer sizes, every path
SLOW_CPU = dict.fromkeys(["check_attention", "check_blocks", "check_dots", "check_int8", "check_product"], "--short")
SLOW_GPU = {"check_gpu_attention": "--short", "check_linear": "--quick"}


def shortened(tests, options):
    """tests of listed(), with the option that options has for a name."""
    return [(name, command and [*command, *([options[name]] if name in options else [])], *rest)
            for name, command, *rest in tests]


def release(phase):
    if build(phase, "release"):
        run_programs(phase, "build", listed("build"))


def sanitize(phase):
    if not build(phase, "debug"):
        return
    # the page's script, and a browser, have nothing of ours to instrument; what they ask for, other tests ask for
    tests = [t for t in listed("build-debug") if "house" not in t[2] and t[0] != "test_serve_page"]
    end = time.monotonic() + 60 * phase.options.soak
    while True:
        run_programs(phase, "build-debug", shortened(tests, SLOW_CPU), slower=5)
        if time.monotonic() >= end or phase.total("failed"):
            return


def threads(phase):
    if build(phase, "tsan", ["tests_threads"]):
        tests = [t for t in listed("build-tsan") if "threads" in t[2]]
        if tests:
            run_programs(phase, "build-tsan", tests, slower=10)
        else:
            phase.note_skip("tsan", "no test carries the label threads")


def script(phase, name, path, *args):
    with phase.slots.program(False):
        result = tap.run(name, [sys.executable, os.path.join(ROOT, path), *args], None, 600, ROOT)
    phase.add(result)


def lint(phase):
    script(phase, "lint", "tools/lint.py", "--tap")


def headers(phase):
    script(phase, "headers", "tests/house/headers.py")


def probe_fuzzer():
    """Why clang cannot link a libFuzzer program, or None."""
    if not shutil.which("clang"):
        return "clang is not installed"
    source = "int LLVMFuzzerTestOneInput(const void *p, unsigned long n) { return p && n > 9; }"
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "probe.c")
        with open(path, "w", encoding="utf-8") as f:
            f.write(source)
        status, log, _ = capture(["clang", "-fsanitize=fuzzer,address", path, "-o", path + ".out"])
    return None if status == 0 else "clang lacks the libFuzzer runtime: " + log.strip().split("\n")[-1]


def fuzz(phase):
    reason = probe_fuzzer()
    if reason:
        phase.note_skip("fuzz", reason)
        return
    if not build(phase, "fuzz", ["fuzz_programs"]):
        return
    seconds = phase.options.fuzz_seconds
    tests = [(name, command, labels, seconds + 120, env)
             for name, command, labels, _, env in listed("build-fuzz")]
    # libFuzzer counts whole seconds and ends when there are more than these
    run_programs(phase, "build-fuzz", tests, extra=["-max_total_time=%d" % max(seconds - 1, 1)])


def aarch64(phase):
    """The tests that meet kernels and byte-level code, on 64-bit ARM under emulation."""
    for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if not shutil.which(tool):
            phase.note_skip("aarch64", tool + " is not installed")
            return
    status, log, _ = capture(["sh", "tools/aarch64_sysroot.sh"])
    if status != 0:
        phase.note_skip("aarch64", "no ARM libraries: " + (log.strip() or "?").split("\n")[-1])
        return
    if build(phase, "aarch64", ["tests_programs", "ivchat_app"]):
        tests = [t for t in listed("build-aarch64") if t[2] & {"unit", "check", "tiny"}]
        run_programs(phase, "build-aarch64", shortened(tests, SLOW_CPU), slower=10)


def baseline(phase):
    """Kernel checks on an x86-64 without AVX: nothing outside the ISA files may need more."""
    if platform.machine() != "x86_64":
        phase.note_skip("baseline", "this machine is no x86-64")
        return
    if not shutil.which("qemu-x86_64"):
        phase.note_skip("baseline", "qemu-x86_64 is not installed")
        return
    if build(phase, "release"):
        tests = [t for t in listed("build") if "check" in t[2]]
        run_programs(phase, "build", shortened(tests, SLOW_CPU), prefix=["qemu-x86_64", "-cpu", "Westmere"], slower=10)


def onednn(phase):
    """The kernel checks of products, with oneDNN's as one more tier."""
    if platform.machine() != "x86_64" or not os.path.exists("/usr/include/oneapi/dnnl/dnnl.h"):
        phase.note_skip("onednn", "oneDNN is not installed")
    elif build_variant(phase, "onednn", ["check_product", "check_tiers"]):
        tests = [t for t in listed("build-onednn") if t[0] in ("check_product", "check_tiers")]
        run_programs(phase, "build-onednn", tests)


GPU_CHECKS = ["check_cuda_quant", "check_cuda_rows", "check_gpu_attention", "check_gpu_blocks", "check_gpu_memory", "check_gpu_place",
              "check_late_step", "check_linear", "check_qformer_clips", "check_several_gpus"]
GPU_TESTS = [*GPU_CHECKS, "test_batch_threads"]
GPU_BENCHES = ["bench_first", "bench_linear", "bench_model", "bench_product"]


def cuda_tests(build_dir, script_name):
    """The kernel checks of build_dir, and a script, which takes longest, in front."""
    command = [sys.executable, os.path.join(ROOT, "tests", "gpu", script_name + ".py")]
    script_test = (script_name, command, {"apps"}, 600, {"IVCHAT": os.path.join(ROOT, build_dir, "ivchat")})
    return [script_test, *[t for t in listed(build_dir) if "gpu" in t[2]]]


def cuda(phase):
    """The build for NVIDIA GPUs, on one if there is one."""
    # without a GPU the kernels are compiled for each of their paths, and not again for what GPUs may follow
    preset, folder = ("cuda", "build-cuda") if os.path.exists("/dev/nvidiactl") else ("cuda-check", "build-cuda-check")
    if not shutil.which("nvcc") and not os.path.exists("/usr/local/cuda/bin/nvcc"):
        phase.note_skip("cuda", "nvcc is not installed")
    elif build_variant(phase, preset, ["ivchat_app", *GPU_TESTS, *GPU_BENCHES]):
        run_programs(phase, folder, cuda_tests(folder, "test_cuda_absent"))


def emulated(phase):
    """The same kernels on the CPU."""
    if not shutil.which("c++"):
        phase.note_skip("emulated", "c++ is not installed")
    elif build_variant(phase, "cuda-emulated", ["ivchat_app", *GPU_TESTS]):
        tests = cuda_tests("build-cuda-emulated", "test_cuda_emulated")
        run_programs(phase, "build-cuda-emulated", shortened(tests, SLOW_GPU))


# in the order in which they are built: what has long tests first
PHASES = {
    "release": release,     # as installed
    "sanitize": sanitize,   # AddressSanitizer + UBSan
    "aarch64": aarch64,
    "tsan": threads,        # ThreadSanitizer, programs labelled threads
    "emulated": emulated,   # CUDA kernels on the CPU
    "fuzz": fuzz,           # every parser, a few seconds each
    "cuda": cuda,           # NVIDIA GPUs: built, run where there is one
    "baseline": baseline,
    "onednn": onednn,       # products through oneDNN, where it is installed
    "lint": lint,
    "headers": headers,     # each header compiles alone
}


def lacks_golden(reason):
    return "shared" in reason or "golden" in reason


def bench(options):
    phase = Phase("bench", options, Slots(max(1, options.jobs)))
    if not build(phase, "release"):
        return 1
    for name, command, labels, _, env in listed("build"):
        if "check" in labels and command:
            print("== " + name, flush=True)
            subprocess.run([*command, "--bench"], cwd=ROOT, env={**os.environ, **env}, check=False)
    return 0


def report(phases):
    passed, failed, skipped = (sum(p.total(w) for p in phases) for w in ("passed", "failed", "skipped"))
    print("\n%-10s %8s %8s %8s %8s" % ("phase", "passed", "failed", "skipped", "cpu s"))
    for p in phases:
        print("%-10s %8d %8d %8d %8.0f" % (p.name, p.total("passed"), p.total("failed"), p.total("skipped"), p.cpu))
    reasons, missing = {}, 0
    for p in phases:
        for r in p.results:
            for test, _ in r.failures:
                print("FAILED %s: %s: %s" % (p.name, r.name, test))
            for _, reason in r.skips:
                reasons[reason] = reasons.get(reason, 0) + 1
                missing += lacks_golden(reason)
    for reason, n in sorted(reasons.items()):
        print("skipped %d: %s" % (n, reason))
    bad = failed > 0
    if passed + failed == 0:
        print("no test ran")
        bad = True
    if missing and os.environ.get("CI") == "true":
        print("CI must have the golden data: %d tests were skipped for want of it" % missing)
        bad = True
    os.makedirs(os.path.join(ROOT, "build", "test-logs"), exist_ok=True)
    with open(os.path.join(ROOT, "build", "test-logs", "summary.json"), "w", encoding="utf-8") as f:
        json.dump({p.name: {"passed": p.total("passed"), "failed": p.total("failed"),
                            "skipped": p.total("skipped"), "cpu": round(p.cpu, 1),
                            "programs": {r.name: [r.passed, r.failed, r.skipped, round(r.cpu, 1)] for r in p.results}}
                   for p in phases}, f, indent=1)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped), flush=True)
    return 1 if bad else 0


def run_phase(phase, work):
    """A phase without a result has failed, whatever ended it."""
    try:
        work(phase)
    except Exception as error:  # pylint: disable=broad-except
        phase.note_fail(phase.name, "%s: %s" % (type(error).__name__, error))
    if not phase.results:
        phase.note_fail(phase.name, "nothing was tested")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("phase", nargs="*", help="one of %s; none = all" % ", ".join(PHASES))
    parser.add_argument("--list", action="store_true", help="name the phases")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="build and run N at a time")
    parser.add_argument("--fuzz-seconds", type=int, default=2, help="for each fuzz target")
    parser.add_argument("--soak", type=float, default=0, help="repeat the sanitize phase for so many minutes")
    parser.add_argument("--bench", action="store_true", help="time the kernels instead of testing them")
    options = parser.parse_args()
    if options.list:
        print("\n".join(PHASES))
        return 0
    if options.bench:
        return bench(options)
    unknown = [p for p in options.phase if p not in PHASES]
    if unknown:
        parser.error("no phase %s; there are %s" % (unknown[0], ", ".join(PHASES)))
    # builds that tests start have one processor, like every test
    os.environ.update({"CMAKE_BUILD_PARALLEL_LEVEL": "1", "JOBS": "1"})
    slots = Slots(max(1, options.jobs))
    phases = [Phase(name, options, slots) for name in dict.fromkeys(options.phase or PHASES)]

    threads = [threading.Thread(target=run_phase, args=(p, PHASES[p.name]), daemon=True) for p in phases]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        tap.kill_all()
        print("interrupted", flush=True)
        os._exit(130)  # threads wait for programs that are gone, and would start others
    return report(phases)


if __name__ == "__main__":
    sys.exit(main())

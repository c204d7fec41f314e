# SPDX-License-Identifier: MIT
"""The counting itself: whatever a test program does, it is counted once and never taken for success; the
summary line and the exit status agree, in run_tests.py and in .ci/run; and what runs at a time."""
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import run_tests  # noqa: E402
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# what the program prints, how it ends, and what must be counted: passed, failed, skipped
CASES = [
    ("all well", "1..2\nok 1 - a\nok 2 - b\n", 0, (2, 0, 0)),
    ("one fails", "1..2\nok 1 - a\nnot ok 2 - b\n# why\n", 1, (1, 1, 0)),
    ("two groups", "1..1\nok 1 - a\n1..1\nok 1 - b\n", 0, (2, 0, 0)),
    ("cmocka skips", "1..2\nok 1 - a\nSKIP no data\nnot ok 2 # SKIP b\n", 0, (1, 0, 1)),
    ("cmocka skips, without a reason", "1..2\nok 1 - a\nnot ok 2 # SKIP b\n", 0, (1, 1, 0)),
    ("a script skips, without a reason", "1..2\nok 1 - a\nok 2 - b # SKIP\n", 0, (1, 1, 0)),
    ("a script skips", "ok 1 - a\nok 2 - b # SKIP no tool\n1..2\n", 0, (1, 0, 1)),
    ("dies within", "1..3\nok 1 - a\n", -11, (1, 1, 0)),
    ("dies before its output", "", -6, (0, 1, 0)),
    ("leaves early and calls it success", "1..3\nok 1 - a\n", 0, (1, 1, 0)),
    ("leaks at exit", "1..1\nok 1 - a\n", 23, (1, 1, 0)),
    ("dies after a failure", "1..3\nok 1 - a\nnot ok 2 - b\n", -11, (1, 2, 0)),
    ("hangs", "1..2\nok 1 - a\n", None, (1, 1, 0)),
    ("group fixture fails", "1..1\nnot ok 0 - g [  FAILED  ] GROUP SETUP\n", 1, (0, 2, 0)),
    ("no TAP, success", "done\n", 0, (1, 0, 0)),
    ("no TAP, failure", "oops\n", 3, (0, 1, 0)),
    ("no TAP, 77", "SKIP no network\n", 77, (0, 0, 1)),
    ("no TAP, 77 without a reason, as of libFuzzer", "==1== ERROR: libFuzzer: deadly signal\n", 77, (0, 1, 0)),
    ("a plan of nothing", "1..0 # SKIP no CUDA device\n", 77, (0, 0, 1)),
    ("prose that looks like TAP", "1..1\nok 1 - a\nokay 2\nnot okay\nok\n", 0, (1, 0, 0)),
]


def summary(results, env):
    """Exit status and printed text of run_tests.report over one phase with those results."""
    phase = run_tests.Phase("p", None)
    phase.results = results
    said = io.StringIO()
    old = os.environ.pop("CI", None)
    os.environ.update(env)
    with tempfile.TemporaryDirectory() as top, contextlib.redirect_stdout(said):
        root, run_tests.ROOT = run_tests.ROOT, top
        status = run_tests.report([phase])
        run_tests.ROOT = root
    os.environ.pop("CI", None)
    if old is not None:
        os.environ["CI"] = old
    return status, said.getvalue()


def result(passed=0, failures=(), skips=()):
    r = tap.Result("prog")
    r.passed = passed
    for f in failures:
        r.fail(f, "")
    for s in skips:
        r.skip("t", s)
    return r


def check_slots(report):
    """One preset is built at a time, in the order of the phases and once; programs and compilers share the slots."""
    slots = run_tests.Slots(3)
    one, two, three = (run_tests.Phase(name, None, slots) for name in ("one", "two", "three"))
    took, order = [], []

    def ask(phase, preset, targets=()):
        with slots.build(phase, preset, targets) as jobs:
            order.append((phase.name, jobs))
            if jobs:
                slots.done.add((preset, tuple(targets)))

    with slots.program(False), slots.program(True):
        with slots.build(one, "a", ["part"]) as jobs:
            took = [jobs, slots.free.acquire(blocking=False)]
            threads = []
            for phase in (three, two):
                threads.append(threading.Thread(target=ask, args=(phase, "a")))
                threads[-1].start()
                while not phase.wants_build:
                    time.sleep(0.001)
            waiting = list(order)
        for thread in threads:
            thread.join()
    report.ok(took == [2, False], "a build takes what programs leave, but for one that waits", took)
    report.ok(waiting == [] and order[0] == ("two", 2), "one builds at a time, the phase listed first first", (waiting, order))
    report.ok(order[1:] == [("three", 0)], "what is built is not built again", order)
    # who finds its preset built, listed first, does not leave those behind it waiting; which of them wakes first is chance
    for trial in range(30):
        del order[2:]
        preset = "c%d" % trial
        with slots.build(one, preset, []):
            threads = []
            for phase, asked in ((three, "d%d" % trial), (two, preset)):
                threads.append(threading.Thread(target=ask, args=(phase, asked), daemon=True))
                threads[-1].start()
                while not phase.wants_build:
                    time.sleep(0.001)
            slots.done.add((preset, ()))
        for thread in threads:
            thread.join(20)
        if sorted(order[2:]) != [("three", 3), ("two", 0)]:
            break
    report.ok(sorted(order[2:]) == [("three", 3), ("two", 0)], "what is built already keeps nobody", order)
    del order[2:]
    ask(one, "b", ["part"])
    ask(one, "b")
    ask(one, "b", ["another"])
    report.ok([jobs for _, jobs in order[2:]] == [3, 3, 0], "parts, then the whole, which has the parts", order)
    free = [slots.free.acquire(blocking=False) for _ in range(4)]
    report.ok(free == [True] * 3 + [False], "all slots are given back", free)


def ci_run(makefile):
    with tempfile.TemporaryDirectory() as top:
        os.makedirs(os.path.join(top, ".ci"))
        shutil.copy(os.path.join(ROOT, ".ci", "run"), os.path.join(top, ".ci"))
        with open(os.path.join(top, "Makefile"), "w", encoding="utf-8") as f:
            f.write(makefile)
        done = subprocess.run(["bash", os.path.join(top, ".ci", "run")], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=False)
        return done.returncode, (done.stdout.decode().splitlines() or [""])[-1]


def main():
    report = tap.Report()
    for name, output, status, expected in CASES:
        r = tap.Result("prog")
        r.output = output
        tap.count(r, status)
        got = (r.passed, r.failed, r.skipped)
        report.ok(got == expected and len(r.failures) == r.failed and len(r.skips) == r.skipped,
                  "counting: " + name, "got %s, expected %s" % (got, expected))
    r = tap.Result("prog")
    r.output = CASES[3][1]
    tap.count(r, 0)
    report.ok(r.skips == [("b", "no data")], "the reason of a skip is kept", r.skips)

    r = tap.run("sleeper", ["sh", "-c", "echo 1..1; sleep 100 & wait"], timeout=0.5)
    report.ok(r.failed == 1 and r.seconds < 20, "a hanging program ends with its children", r.output)
    r = tap.run("nobody", ["/nowhere/at/all"])
    report.ok((r.passed, r.failed) == (0, 1), "a program that cannot start has failed", r.output)

    r = tap.run("closes its output", ["sh", "-c", "echo ok 1; exec >&- 2>&-; sleep 0.2; exit 5"])
    report.ok((r.passed, r.failed) == (1, 1) and "exit status 5" in r.failures[0][0], "a program that closes its output is waited for",
              r.failures)
    r = tap.run("busy", ["sh", "-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done'; echo ok 1; echo 1..1"])
    report.ok(r.passed == 1 and 0.05 < r.cpu, "processor seconds, children's too, are counted", r.cpu)
    check_slots(report)
    for name, work in (("an exception of any kind", lambda phase: phase.no_such_thing), ("no result", lambda phase: None)):
        phase = run_tests.Phase("broken", None)
        run_tests.run_phase(phase, work)
        report.ok(phase.total("failed") == 1, "a phase has failed by " + name, phase.results)

    for name, results, env, status, last in (
            ("all well", [result(3)], {}, 0, "3 passed, 0 failed, 0 skipped"),
            ("a failure", [result(3, ["a"])], {}, 1, "3 passed, 1 failed, 0 skipped"),
            ("nothing ran", [], {}, 1, "0 passed, 0 failed, 0 skipped"),
            ("only skips", [result(0, (), ["no tool"])], {}, 1, "0 passed, 0 failed, 1 skipped"),
            ("no golden data at home", [result(3, (), ["no golden data"])], {}, 0, "3 passed, 0 failed, 1 skipped"),
            ("no golden data in CI", [result(3, (), ["no golden data"])], {"CI": "true"}, 1,
             "3 passed, 0 failed, 1 skipped"),
            ("another skip in CI", [result(3, (), ["no AVX-512 here"])], {"CI": "true"}, 0,
             "3 passed, 0 failed, 1 skipped")):
        got, said = summary(results, env)
        report.ok(got == status and said.splitlines()[-1] == last, "summary: " + name, said)

    for name, makefile, status, last in (
            ("success", "test:\n\t@echo '5 passed, 0 failed, 1 skipped'\n", 0, "5 passed, 0 failed, 1 skipped"),
            ("failure", "test:\n\t@echo '5 passed, 2 failed, 0 skipped'; exit 1\n", 2, "5 passed, 2 failed, 0 skipped"),
            ("no tests reached", "test:\n\t@echo 'no compiler'; exit 1\n", 2, "0 passed, 1 failed, 0 skipped"),
            ("silence is no success", "test:\n\t@true\n", 1, "0 passed, 1 failed, 0 skipped")):
        got, line = ci_run(makefile)
        report.ok((got, line) == (status, last), ".ci/run: " + name, (got, line))
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

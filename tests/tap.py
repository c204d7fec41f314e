# SPDX-License-Identifier: MIT
"""Runs one test program and counts its single tests.

A cmocka program under CMOCKA_MESSAGE_OUTPUT=TAP prints a plan "1..N" per group and one "ok"/"not ok"
line per test. Scripts may print TAP too; one without any TAP counts as one test by its exit status
(77 = skipped, if a reason was printed: libFuzzer ends with 77 when it has found something). cmocka 1.1
writes a skipped test as "not ok 3 # SKIP name" and has no room for a reason, so a test prints a line
"SKIP <reason>" before it calls skip().

Easy to get wrong: a program that dies has printed fewer lines than its plan, or, its buffer lost, no
plan at all; a leak found at exit leaves every line "ok" and only the exit status bad. Both fail.
"""
import os
import re
import signal
import subprocess
import threading
import time

NOTHING_PLANNED = re.compile(r"^1\.\.0\s*#\s*SKIP\b\s*(.*)$", re.IGNORECASE)
PLAN = re.compile(r"^1\.\.(\d+)\s*$")
TEST = re.compile(r"^(ok|not ok)\b\s*(\d*)\s*(?:-\s*)?(.*)$")
SKIP_LINE = re.compile(r"^SKIP\b[:\s]*(.*)$")
SKIP_MARK = re.compile(r"#\s*SKIP\b\s*(.*)$", re.IGNORECASE)
TAIL_LINES = 40


class Result:
    """Counts of one program; failures and skips are [(test name, text)]."""

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self.skips = []
        self.seconds = self.cpu = 0.0
        self.output = ""

    def fail(self, test, text):
        self.failed += 1
        self.failures.append((test, text))

    def skip(self, test, reason):
        """A skip that says no reason is none: a failure, with what was printed."""
        if reason.strip():
            self.skipped += 1
            self.skips.append((test, reason.strip()))
        else:
            self.fail(test, ("skipped, no reason given\n" + self.tail()).strip())

    def tail(self):
        return "\n".join(self.output.splitlines()[-TAIL_LINES:])


def count(result, status):
    """Reads result.output; status = exit status, negative signal number, or None after a timeout."""
    planned = seen = 0
    any_tap = False
    reason = ""
    notes = []  # lines since the last test line: cmocka prints the assertion after the "not ok"
    last_failure = None
    for line in result.output.splitlines():
        plan = PLAN.match(line)
        if plan:
            planned += int(plan.group(1))
            any_tap = True
            continue
        said = SKIP_LINE.match(line) or NOTHING_PLANNED.match(line)
        if said:
            reason = said.group(1)
            continue
        test = TEST.match(line)
        if not test or (not test.group(2) and not test.group(3)):
            if last_failure is not None and line.startswith("#"):
                notes.append(line)
            continue
        any_tap = True
        if last_failure is not None and notes:
            result.failures[last_failure] = (result.failures[last_failure][0], "\n".join(notes))
        notes, last_failure = [], None
        name = test.group(3)
        mark = SKIP_MARK.search(name)
        if test.group(2) != "0":  # cmocka numbers a failed group fixture 0
            seen += 1
        if mark:
            before = name[: mark.start()].strip(" -")
            result.skip(before or mark.group(1), (mark.group(1) if before else "") or reason)
        elif test.group(1) == "ok":
            result.passed += 1
        else:
            result.fail(name, "")
            last_failure = len(result.failures) - 1
        reason = ""
    if last_failure is not None and notes:
        result.failures[last_failure] = (result.failures[last_failure][0], "\n".join(notes))

    # print_error() and fail_msg() of cmocka go past TAP to standard error: their place is lost
    rest = [line for line in result.output.splitlines()
            if line.strip() and not line.startswith("#") and not PLAN.match(line) and not TEST.match(line)]
    if result.failures and status is not None and status >= 0:
        test, text = result.failures[-1]
        result.failures[-1] = (test, "\n".join([text, *rest[-TAIL_LINES:]]).strip())

    if status is None:
        result.fail("(timeout)", result.tail())
    elif not any_tap:
        if status == 0:
            result.passed += 1
        elif status == 77:
            result.skip(result.name, reason)
        else:
            result.fail("(%s, no test reported)" % describe(status), result.tail())
    elif seen < planned and not result.failed:
        result.fail("(%s after %d of %d tests)" % (describe(status), seen, planned), result.tail())
    elif seen < planned:
        result.fail("(%s after %d of %d tests)" % (describe(status), seen, planned), "")
    elif status != 0 and not result.failed:
        result.fail("(%s though each test passed)" % describe(status), result.tail())
    return result


def describe(status):
    if status < 0:
        try:
            return "died of " + signal.Signals(-status).name
        except ValueError:
            return "died of signal %d" % -status
    return "exit status %d" % status


LIVE = set()  # groups of processes that finish() waits for


def kill_all():
    """Ends what finish() waits for, children too."""
    for pid in list(LIVE):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def finish(proc, timeout=None):
    """(what it prints, exit status, processor seconds of it and of those it waited for) of a process with a group of its
    own; after timeout seconds the group is killed and the status None. A child that keeps the pipe open is waited for."""
    pieces = []
    LIVE.add(proc.pid)
    reader = threading.Thread(target=lambda: pieces.append(proc.stdout.read()), daemon=True)
    reader.start()
    end = None if timeout is None else time.monotonic() + timeout
    reader.join(timeout)
    ended = not reader.is_alive()
    pid = 0
    while ended and pid == 0:  # it may close its output and go on
        pid, status, usage = os.wait4(proc.pid, os.WNOHANG)
        if pid == 0:
            ended = end is None or time.monotonic() < end
            time.sleep(0.002)
    if not ended:
        os.killpg(proc.pid, signal.SIGKILL)
        reader.join()
        _, status, usage = os.wait4(proc.pid, 0)
    LIVE.discard(proc.pid)
    proc.stdout.close()
    proc.returncode = os.waitstatus_to_exitcode(status)
    return b"".join(pieces), proc.returncode if ended else None, usage.ru_utime + usage.ru_stime


def run(name, command, env=None, timeout=600, cwd=None):
    """Runs command (a list) in its own process group, kills the group after timeout seconds."""
    result = Result(name)
    full_env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", **(env or {}))
    full_env.pop("CMOCKA_XML_FILE", None)
    start = time.monotonic()
    try:
        proc = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, env=full_env, cwd=cwd,
                                start_new_session=True)
    except OSError as error:
        result.output = str(error)
        result.fail("(cannot start)", result.output)
        return result
    out, status, result.cpu = finish(proc, timeout)
    result.seconds = time.monotonic() - start
    result.output = out.decode("utf-8", "replace")
    return count(result, status)


class Report:
    """For test scripts: prints TAP, one line per check, the plan last. exit(report.done())."""

    def __init__(self):
        self.n = self.bad = 0

    def ok(self, passed, name, note=""):
        self.n += 1
        self.bad += not passed
        print("%s %d - %s" % ("ok" if passed else "not ok", self.n, name))
        for line in [] if passed else str(note).splitlines()[-TAIL_LINES:]:
            print("# " + line)
        return passed

    def skip(self, name, reason):
        self.n += 1
        print("ok %d - %s # SKIP %s" % (self.n, name, reason))

    def done(self):
        print("1..%d" % self.n)
        return 1 if self.bad or not self.n else 0

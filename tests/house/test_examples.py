# SPDX-License-Identifier: MIT
"""Each program of examples/ compiles strictly, as C11 against libivchat.so, and does what it says."""
import glob
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("IVCHAT_TEST_BUILD", os.path.join(ROOT, "build"))
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
VIDEO = os.path.join(ROOT, "tests", "fixtures", "media", "bframes.mp4")
STRICT = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
NUMBER = r"-?[\d.]+(e[+-]?\d+)?"
WANT = {  # arguments, what standard output must look like
    "ask_file": ([MODEL, VIDEO], r".*\(0 of \d+ prompt tokens reused\)\n.*\n\([1-9]\d+ of \d+ prompt tokens reused\)\n"),
    "ask_frames": ([MODEL], r"The video contains 8 frames sampled at 0\.0, 0\.5, 1\.0,.* 3\.5 seconds\.\n.+\n"),
    "ask_threads": ([MODEL, VIDEO], r"What happens\?\n.+\nWhere is it\?\n.+\nWho is there\?\n.+\n"),
    "embed_video": ([MODEL, VIDEO], r"(%s ){31,}%s\n" % (NUMBER, NUMBER)),
}


def run(*command):
    env = {**os.environ, "LD_LIBRARY_PATH": BUILD}
    done = subprocess.run(command, capture_output=True, check=False, env=env)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def main():
    report = tap.Report()
    names = sorted(os.path.basename(f)[:-2] for f in glob.glob(os.path.join(ROOT, "examples", "*.c")))
    report.ok(names == sorted(WANT), "every example has a test", names)
    with tempfile.TemporaryDirectory() as top:
        for name in names:
            exe = os.path.join(top, name)
            status, out, err = run("cc", *STRICT, "-I" + os.path.join(ROOT, "include"),
                                   os.path.join(ROOT, "examples", name + ".c"), "-L" + BUILD, "-livchat", "-lpthread",
                                   "-o", exe)
            if not report.ok(status == 0, name + " compiles", out + err):
                continue
            arguments, want = WANT.get(name, ([], ""))
            status, out, err = run(exe, *arguments)
            report.ok(status == 0 and re.fullmatch(want, out, re.DOTALL), name + " runs", out + err)
            status, out, err = run(exe, os.path.join(top, "no model"), VIDEO)
            report.ok(status == 1 and "no model" in err, name + " says why it cannot", out + err)
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

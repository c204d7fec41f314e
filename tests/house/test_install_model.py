# SPDX-License-Identifier: MIT
"""The small model after `make install`: it is where the installed program and the installed library look, also when
PREFIX was moved; `make uninstall` leaves no folder of it. Where the checkout has no models/ yet, the test model
stands in for it once the installation is done."""
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("IVCHAT_TEST_BUILD", os.path.join(ROOT, "build"))
SHIPPED = os.path.join(ROOT, "models")
FIXTURE = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
# what an embedder in another language does: loads the library, names no model
LOADER = r"""
import ctypes, re, sys
lib = ctypes.CDLL(sys.argv[1])
class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1024)]
options = (ctypes.c_char * 4096)()  # all members NULL or 0 = the defaults of this struct
engine, e = ctypes.c_void_p(), Error()
rc = lib.iv_engine_open(options, ctypes.byref(engine), ctypes.byref(e))
if rc == 0:
    lib.iv_engine_info.restype = ctypes.POINTER(ctypes.c_char_p)
    print(lib.iv_engine_info(engine)[0].decode())
    lib.iv_engine_close(engine)
else:
    print(rc, e.message.decode())
"""


def run(*command, env=None, cwd=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("IVCHAT_") or k == "IVCHAT_TEST_BUILD"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd=cwd,
                          env={**clean, **(env or {})})
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def files_below(folder):
    return sorted(os.path.relpath(os.path.join(d, f), folder) for d, _, fs in os.walk(folder) for f in fs)


def library_in(prefix):
    return next(os.path.join(d, f) for d, _, fs in os.walk(prefix) for f in fs if f == "libivchat.so")


def main():
    report = tap.Report()
    with tempfile.TemporaryDirectory() as top:
        stage = os.path.join(top, "stage")
        status, log = run("cmake", "--install", BUILD, "--prefix", "/opt/iv", env={"DESTDIR": stage})
        prefix = os.path.join(stage, "opt", "iv")
        models = os.path.join(prefix, "share", "ivchat", "models")
        wanted = files_below(SHIPPED)
        same = wanted and filecmp.cmpfiles(SHIPPED, models, wanted, shallow=False)[0] == wanted
        report.ok(status == 0 and (same or not wanted and not os.path.exists(models)),
                  "cmake --install takes models/ with it, if there is one", log)
        if not wanted:
            shutil.copytree(FIXTURE, os.path.join(models, "ivchat-small"))

        def finds(what, prefix):
            status, said = run(os.path.join(prefix, "bin", "ivchat"), "info")
            report.ok(status == 0 and said.split()[:2] == ["name", "ivchat-small"], what + ": the program", said)
            said = run(sys.executable, "-c", LOADER, library_in(prefix))[1]
            report.ok(said == "ivchat-small", what + ": the library", said)

        finds("staged", prefix)
        moved = os.path.join(top, "moved prefix")
        shutil.copytree(prefix, moved, symlinks=True)
        shutil.rmtree(os.path.join(prefix, "share", "ivchat"))
        finds("moved", moved)
        link = os.path.join(top, "libother.so")
        os.symlink(library_in(moved), link)
        said = run(sys.executable, "-c", LOADER, link)[1]
        report.ok(said == "ivchat-small", "the library through a link", said)
        said = run(sys.executable, "-c", LOADER, library_in(moved), env={"IVCHAT_MODELS_DIR": top})[1]
        report.ok(said.startswith("-3 IVCHAT_MODELS_DIR") and top in said, "IVCHAT_MODELS_DIR is heeded", said)

        again = run("cmake", "--install", BUILD, "--prefix", "/opt/iv", env={"DESTDIR": stage})
        status, log = run("make", "--no-print-directory", "uninstall", "PREFIX=/opt/iv", "DESTDIR=" + stage,
                          "BUILD=" + BUILD, cwd=ROOT)
        left = [d for d, _, _ in os.walk(stage) if "ivchat" in os.path.basename(d)]
        report.ok(again[0] == 0 and status == 0 and not left and not files_below(stage),
                  "make uninstall leaves no folder of ours", log + str(left))
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

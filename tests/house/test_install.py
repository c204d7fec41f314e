# SPDX-License-Identifier: MIT
"""Installs into a scratch PREFIX and DESTDIR, then builds and runs a program against what lies there:
by pkg-config (shared, static) and by find_package (both targets), as C and, if there is g++, as C++."""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("IVCHAT_TEST_BUILD", os.path.join(ROOT, "build"))
PAGES = ["bin/ivchat", "share/man/man1/ivchat.1", "share/man/man1/ivchat-chat.1", "share/man/man1/ivchat-info.1",
         "share/bash-completion/completions/ivchat", "share/zsh/site-functions/_ivchat",
         "share/fish/vendor_completions.d/ivchat.fish"]
PROGRAM = r"""
#include <ivchat.h>
#include <stdio.h>
int main(void)
{
    struct iv_engine_options o = iv_engine_options_default();
    iv_engine *engine = NULL;
    struct iv_error e;
    o.model = "/nowhere at all";
    int rc = iv_engine_open(&o, &engine, &e);
    iv_engine_close(engine);
    printf("%s %d %s\n", iv_version(), rc, e.message);
    return rc == IV_ERR_MODEL ? 0 : 1;
}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(embedder C)
find_package(PkgConfig REQUIRED)
pkg_check_modules(FFMPEG REQUIRED IMPORTED_TARGET libavutil) # the embedder's own, of which it needs less
find_package(ivchat %s REQUIRED)
add_executable(by_shared main.c)
target_link_libraries(by_shared PRIVATE ivchat::ivchat)
add_executable(by_static main.c)
target_link_libraries(by_static PRIVATE ivchat::ivchat_static)
"""


def run(*command, env=None, cwd=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd=cwd,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stdout.decode("utf-8", "replace")


def main():
    report = tap.Report()
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as f:
        version = re.search(r"project\(ivchat VERSION ([\d.]+)", f.read()).group(1)
    with tempfile.TemporaryDirectory() as top:
        prefix = os.path.join(top, "a prefix")  # blanks in paths are part of life
        status, log = run("cmake", "--install", BUILD, "--prefix", prefix)
        report.ok(status == 0, "cmake --install", log)
        files = {os.path.relpath(os.path.join(d, f), prefix) for d, _, fs in os.walk(prefix) for f in fs}
        lib = os.path.dirname(next((f for f in files if f.endswith("libivchat.a")), "lib/libivchat.a"))
        wanted = ["include/ivchat.h", lib + "/libivchat.a", lib + "/libivchat.so", lib + "/pkgconfig/ivchat.pc", lib + "/pkgconfig/ivchat-static.pc",
                  lib + "/cmake/ivchat/ivchat-config.cmake", lib + "/cmake/ivchat/ivchat-config-version.cmake",
                  "share/doc/ivchat/LICENSE", "share/doc/ivchat/bert-base-uncased/LICENSE",
                  "share/doc/ivchat/bert-base-uncased/NOTICE"] + (PAGES if os.environ.get("IVCHAT") else [])
        report.ok(not set(wanted) - files, "what belongs there is there", sorted(set(wanted) - files))
        headers = [f for f in files if f.endswith(".h")]
        report.ok(headers == ["include/ivchat.h"], "one header and no more", headers)
        leaks = []
        for f in files:
            if f.endswith((".pc", ".cmake")):
                with open(os.path.join(prefix, f), encoding="utf-8") as text:
                    if ROOT in text.read():
                        leaks.append(f)
        report.ok(not leaks, "no installed text names the source folder", leaks)

        main_c = os.path.join(top, "main.c")
        with open(main_c, "w", encoding="utf-8") as f:
            f.write(PROGRAM)
        env = {"PKG_CONFIG_PATH": os.path.join(prefix, lib, "pkgconfig"),
               "LD_LIBRARY_PATH": os.path.join(prefix, lib)}
        status, said = run("pkg-config", "--modversion", "ivchat", env=env)
        report.ok(status == 0 and said.strip() == version, "pkg-config knows version " + version, said)

        def builds(name, compiler, package):
            exe = os.path.join(top, name)
            status, flags = run("pkg-config", "--cflags", "--libs", package, env=env)
            status, log = run(*compiler, main_c, "-o", exe, *shlex.split(flags)) if status == 0 else (1, flags)
            report.ok(status == 0, name + ": builds", log)
            status, said = run(exe, env=env) if status == 0 else (1, "not built")
            report.ok(status == 0 and said.startswith(version + " ") and "/nowhere at all" in said,
                      name + ": runs and says why there is no model", said)
            return exe

        strict = ["-Wall", "-Wextra", "-Werror"]
        builds("pkg-config shared", ["cc", *strict], "ivchat")
        if shutil.which("g++"):
            builds("pkg-config shared, C++", ["g++", *strict, "-Wpedantic", "-Wshadow", "-x", "c++"], "ivchat")
        else:
            report.skip("pkg-config shared, C++", "g++ is not installed")
        exe = builds("pkg-config static", ["cc", *strict], "ivchat-static")
        status, needs = run("ldd", exe)
        report.ok(status == 0 and "libivchat" not in needs, "pkg-config static: needs no libivchat.so", needs)

        project = os.path.join(top, "project")
        os.makedirs(project)
        shutil.copy(main_c, project)
        with open(os.path.join(project, "CMakeLists.txt"), "w", encoding="utf-8") as f:
            f.write(PROJECT % version.rsplit(".", 1)[0])
        status, log = run("cmake", "-S", project, "-B", project + "/b", "-DCMAKE_PREFIX_PATH=" + prefix)
        report.ok(status == 0, "find_package(ivchat): configures", log)
        status, log = run("cmake", "--build", project + "/b")
        report.ok(status == 0, "find_package(ivchat): builds", log)
        for name in ("by_shared", "by_static"):
            exe = os.path.join(project, "b", name)
            status, said = run(exe) if os.path.exists(exe) else (1, "not built")
            report.ok(status == 0 and said.startswith(version + " "), "find_package(ivchat): %s runs" % name, said)

        stage = os.path.join(top, "stage")
        status, log = run("cmake", "--install", BUILD, "--prefix", "/opt/iv", env={"DESTDIR": stage})
        report.ok(status == 0 and os.path.exists(stage + "/opt/iv/include/ivchat.h"), "DESTDIR", log)
        with open(os.path.join(BUILD, "install_manifest.txt"), encoding="utf-8") as f:
            report.ok("/opt/iv/include/ivchat.h" in f.read().split("\n"), "the manifest has the final paths")
        status, log = run("make", "--no-print-directory", "uninstall", "DESTDIR=" + stage, "BUILD=" + BUILD, cwd=ROOT)
        left = [f for _, _, fs in os.walk(stage) for f in fs]
        report.ok(status == 0 and not left, "make uninstall takes all of it away", log + str(left))
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

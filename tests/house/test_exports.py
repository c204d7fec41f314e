# SPDX-License-Identifier: MIT
"""What the built libraries show to the linker: exactly the functions of ivchat.h; and no mutable globals."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("IVCHAT_TEST_BUILD", os.path.join(ROOT, "build"))
# makes the k-th allocation fail, in tests; and the text of iv_build_info, written once behind pthread_once
MUTABLE_ALLOWED = {"fail_countdown", "once", "text"}


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()


def declared():
    with open(os.path.join(ROOT, "include", "ivchat.h"), encoding="utf-8") as f:
        code = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.DOTALL)
    return set(re.findall(r"^IV_API\b[^;(]*?\b(\w+)\s*\(", code, flags=re.MULTILINE))


def defined(*nm):
    names = set()
    for line in output("nm", *nm).splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] in "TDBRVWi":
            names.add(parts[2])
    return names


def globals_of(archive):
    """Objects in .data or .bss: state that all engines of a process would share."""
    found = set()
    for line in output("objdump", "-t", archive).splitlines():
        # address, flags, section, TAB size, name
        hit = re.match(r"[0-9a-f]+ .{5}.O (\.t?(?:data|bss)\S*|\*COM\*)\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)", line)
        if hit and not hit.group(1).startswith(".data.rel.ro"):
            found.add(re.sub(r"\.\d+$", "", hit.group(2)))
    return found


def main():
    report = tap.Report()
    public = declared()
    report.ok(len(public) > 10 and all(n.startswith("iv_") for n in public),
              "ivchat.h declares functions, all of them iv_*", sorted(public))
    shared, static = os.path.join(BUILD, "libivchat.so"), os.path.join(BUILD, "libivchat.a")
    for name, exported in (("libivchat.so", defined("-D", "--defined-only", shared)),
                           ("libivchat.a", defined("-g", "--defined-only", static))):
        report.ok(not exported - public, "%s shows nothing but ivchat.h" % name, sorted(exported - public))
        report.ok(not public - exported, "%s has all of ivchat.h" % name, sorted(public - exported))
    soname = re.search(r"SONAME.*\[(.*)\]", output("readelf", "-d", shared))
    report.ok(soname and re.fullmatch(r"libivchat\.so\.\d+\.\d+", soname.group(1)), "the shared library has a SONAME",
              soname and soname.group(1))
    dynamic = output("readelf", "-d", "-l", "-W", shared)
    report.ok("BIND_NOW" in dynamic or re.search(r"FLAGS.*NOW", dynamic), "symbols are bound at load time")
    report.ok("TEXTREL" not in dynamic, "no text relocations")
    report.ok(re.search(r"GNU_STACK.*RW ", dynamic), "the stack is not executable",
              "\n".join(x for x in dynamic.splitlines() if "GNU_STACK" in x))
    mutable = globals_of(static)
    report.ok(MUTABLE_ALLOWED <= mutable, "the search for globals finds those we know", sorted(mutable))
    report.ok(not mutable - MUTABLE_ALLOWED, "no other mutable globals", sorted(mutable - MUTABLE_ALLOWED))
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

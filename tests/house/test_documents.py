# SPDX-License-Identifier: MIT
"""What the documents tell people to type exists: make targets, verbs, options, the C example, presets."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
IVCHAT = os.environ.get("IVCHAT")


def documents():
    for path in sorted(glob.glob(ROOT + "/*.md") + glob.glob(ROOT + "/docs/*.md")):
        with open(path, encoding="utf-8") as f:
            yield os.path.relpath(path, ROOT), f.read()


def blocks(language):
    for path, text in documents():
        for block in re.findall(r"^```%s\n(.*?)^```" % language, text, flags=re.DOTALL | re.MULTILINE):
            yield path, block


def commands():
    """Lines of sh blocks and `inline code`, comments cut."""
    for path, block in blocks("sh"):
        for line in block.splitlines():
            yield path, re.sub(r"\s+#.*", "", line)
    for path, text in documents():
        for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            yield path, code


def main():
    report = tap.Report()
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as f:
        targets = set(re.findall(r"^([a-z][\w-]*):", f.read(), flags=re.MULTILINE))
    missing = [(p, t) for p, c in commands() for call in re.findall(r"\bmake((?: +[a-z][a-z-]*)+)", c)
               for t in call.split() if t not in targets]
    report.ok(targets and not missing, "every make target in the documents exists", missing)
    with open(os.path.join(ROOT, "CMakePresets.json"), encoding="utf-8") as f:
        presets = {p["name"] for p in json.load(f)["configurePresets"]}
    missing = [(p, n) for p, c in commands() for n in re.findall(r"--preset (\w+)", c) if n not in presets]
    report.ok(not missing, "every preset in the documents exists", missing)

    # what is told in two languages is told twice
    shape = {}
    for path, text in documents():
        if path.startswith("README"):
            typed = [re.sub(r"\s+#.*", "", line) for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
                     for line in block.splitlines()]
            links = sorted(re.findall(r"\]\(((?!#|README)[^)]+)\)", text))
            shape[path] = (typed, links, len(re.findall(r"^## ", text, re.MULTILINE)))
    report.ok(len(shape) == 2 and len(set(map(repr, shape.values()))) == 1,
              "README.md and README.ja.md have the same commands, links and sections", shape)

    helps = {}
    unknown = []
    calls = [(p, c) for p, c in commands() if re.search(r"\bivchat +[a-z]", c)]
    for path, command in calls if IVCHAT else []:
        verb, rest = re.search(r"\bivchat +([a-z]+)(.*)", command).groups()
        if verb not in helps:
            done = subprocess.run([IVCHAT, verb, "--help"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  check=False)
            helps[verb] = done.stdout.decode() if done.returncode == 0 else None
        if helps[verb] is None:
            unknown.append("%s: no verb %s" % (path, verb))
            continue
        for option in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest):
            if not re.search(r"(?<![\w-])%s(?![\w-])" % re.escape(option), helps[verb]):
                unknown.append("%s: %s has no %s" % (path, verb, option))
    if IVCHAT:
        report.ok(len(calls) > 3 and not unknown, "every verb and option in the documents exists", "\n".join(unknown))

    with tempfile.TemporaryDirectory() as top:
        for number, (path, block) in enumerate(blocks("c"), 1):
            source = os.path.join(top, "example.c")
            with open(source, "w", encoding="utf-8") as f:
                f.write(block)
            done = subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
                                   "-I" + os.path.join(ROOT, "include"), source],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            report.ok(done.returncode == 0, "C example %d of %s compiles" % (number, path),
                      done.stdout.decode("utf-8", "replace"))
    return report.done()


if __name__ == "__main__":
    sys.exit(main())

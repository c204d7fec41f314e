#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""--help, --version, unknown verbs; every example of the help parses; docs/COMMANDS.md lists every option."""
import os
import re
import shlex

import program
from program import ROOT, Tap, run

VERBS = ("chat", "embed", "tokenize", "info", "quantize", "bench", "serve", "pull", "list", "rm")
# what an example ends with when there is no model, no cache and no network
EXIT = {"quantize": (1, 3), "bench": (0, 3), "pull": (6,), "list": (0,), "serve": (1, 2, 3)}  # quantize, serve: the files named are not there, the port may be taken
OFFLINE = {"IVCHAT_MODELS_DIR": program.path("absent"), "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent", "HF_TOKEN": ""}
tap = Tap()


def options_in(text):
    """Long options that begin an entry: "  -m, --model DIR", "      --video FILE"."""
    return set(re.findall(r"^ {2}(?:-\w, | {4})--([a-z][a-z0-9-]*)", text, re.MULTILINE)) - {"help"}


def commands(text):
    """Argument lists of the ivchat commands in a text, shell plumbing left out."""
    out = []
    for line in text.splitlines():
        if not re.match(r"^\s+(echo .*\| )?ivchat ", line):
            continue
        words = shlex.split(line[line.index("ivchat "):])
        words = words[1:words.index("<")] if "<" in words else words[1:]
        out.append(words)
    return out


r = run("--help")
tap.ok(r.code == 0 and r.err == "" and all("\n  %s " % v in r.out for v in VERBS), "--help lists the verbs", r)
r = run()
tap.ok(r.code == 2 and r.out == "" and "Usage:" in r.err, "no arguments: usage on standard error, exit 2", r)
r = run("--version")
tap.ok(r.code == 0 and re.match(r"ivchat \d+\.\d+\.\d+\n(.+\n)+", r.out), "--version tells version and build", r)

for wrong, hint in (("caht", "did you mean chat?"), ("tokenise", "did you mean tokenize?"), ("hand", None), ("zzzzzz", None)):
    r = run(wrong)
    good = r.code == 2 and r.out == "" and len(r.lines) == 1 and "unknown verb" in r.err and "--help" in r.err
    tap.ok(good and (hint in r.err if hint else "did you mean" not in r.err), "unknown verb " + wrong, r)

r = run("help", "caht")
tap.ok(r.code == 2 and r.out == "" and 'unknown verb "caht", did you mean chat?' in r.err, "help of an unknown verb names it", r)

with open(os.path.join(ROOT, "docs", "COMMANDS.md"), encoding="utf-8") as f:
    docs = f.read()
sections = dict(re.findall(r"^## ivchat (\w+)\n(.*?)(?=^## |\Z)", docs, re.MULTILINE | re.DOTALL))
shared = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", docs, re.MULTILINE | re.DOTALL))

for verb in VERBS:
    r = run(verb, "--help")
    names = options_in(r.out)
    tap.ok(r.code == 0 and r.err == "" and len(names) >= 5 and "Examples:" in r.out, verb + " --help", r)
    tap.ok(run("help", verb).out == r.out and run(verb, "-h").out == r.out, "help %s and -h say the same" % verb)
    tap.ok(run(verb, "--top-p", "banana", "--help").code == 0, verb + " --help wins over errors in other options")
    examples = commands(r.out)
    tap.ok(len(examples) >= 2, verb + " has examples", r.out)
    for words in examples:
        words = [program.path("absent") if w == "MODEL" else w for w in words]
        got = run(*words, env=OFFLINE)
        tap.ok(got.code in EXIT.get(verb, (3,)), "example parses: " + " ".join(words[:1] + words[3:]), got)
    section = sections.get(verb, "")
    told = set(re.findall(r"^\| `(?:-\w`, `)?--([a-z][a-z0-9-]*)", section, re.MULTILINE))
    for title in re.findall(r"\[([A-Z][a-z]+ options)\]", section):
        told |= set(re.findall(r"^\| `(?:-\w`, `)?--([a-z][a-z0-9-]*)", shared.get(title, ""), re.MULTILINE))
    tap.ok(told == names, "docs/COMMANDS.md lists the options of " + verb,
           "only in the help: %s\nonly in the docs: %s" % (sorted(names - told), sorted(told - names)))

for verb in VERBS:
    manual = run("--man", verb).out.replace("\\-", "-")
    values = re.findall(r"\\fB--[^ ]+\\fR \\fI(.*\|.*)\\fR$", manual, re.MULTILINE)
    tap.ok(values or verb not in ("chat", "bench"), "lists of values are found in the manual page of " + verb, manual)
    if values:
        told = run(verb, "--help").out
        text = re.sub(r"\|\n +", "|", told)
        tap.ok(all(re.search(r" %s\s" % re.escape(v), text) for v in values), "--help of %s tells them whole" % verb, values)
        wide = [line for line in told.splitlines() if re.match(r" {2,}.*\w\|", line) and len(line) > 88]
        tap.ok(not wide, "and in lines of 88 columns", wide)

for words in commands(docs):
    if words[0] in VERBS:
        words = [program.path("absent") if w == "MODEL" else w for w in words]
        got = run(*words, env=OFFLINE)
        tap.ok(got.code in EXIT.get(words[0], (3,)), "command of the docs parses: " + " ".join(words), got)
tap.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Manual pages and shell completions: made from the same tables as --help, so they say the same; and they work."""
import os
import re
import shutil
import subprocess

from program import IVCHAT, SCRATCH, Tap, environment, path, run
from terminal import Terminal

tap = Tap()
VERBS = re.findall(r"^ {2}([a-z]+) +\S", run("--help").out.split("Verbs:\n")[1].split("\n\n")[0], re.MULTILINE)
ENTRY = re.compile(r"^ {2}(?:-(\w), | {4})--([a-z][a-z0-9-]*)(?: (\S+))?(.*)", re.MULTILINE)
os.mkdir(path("bin"))
os.symlink(IVCHAT, path("bin", "ivchat"))
PATH = {"PATH": path("bin") + ":" + os.environ["PATH"]}
for name in ("clip one.mp4", "other.txt"):
    with open(path(name), "w", encoding="utf-8"):
        pass
os.mkdir(path("a folder"))


def options(verb):
    return ["--" + name for _, name, _, _ in ENTRY.findall(run(verb, "--help").out) if name != "help"]


# ---- manual pages
mandoc = shutil.which("mandoc")
for verb in (None, *VERBS):
    r = run("--man", *([verb] if verb else []))
    source = path("page.1")
    with open(source, "w", encoding="utf-8") as f:
        f.write(r.out)
    told = re.findall(r"^\.TP\n(?:\\fB\\-\w\\fR, )?\\fB\\-\\-([a-z\\0-9-]+?)\\fR", r.out, re.MULTILINE)
    told = ["--" + name.replace("\\-", "-") for name in told]
    tap.ok(r.code == 0 and r.err == "" and r.out.startswith('.\\"') and told == (options(verb) if verb else []),
           "manual page of %s: every option of the help" % (verb or "ivchat"), (told, r.out[:300]))
    tap.ok(not re.search(r"^(?:'|\.(?!(?:TH|SH|SS|TP|BR?|I|PP|br|nf|fi)\b|\\))", r.out, re.MULTILINE), "no text is taken for a macro", r.out)
    if mandoc:
        lint = subprocess.run([mandoc, "-Tlint", "-W", "warning", source], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False).stdout.decode()
        lint = [x for x in lint.splitlines() if "missing date" not in x]
        tap.ok(not lint, "mandoc has nothing to say about it", "\n".join(lint))
    else:
        tap.skip("mandoc about " + (verb or "ivchat"), "mandoc is not installed")
r = run("--man")
tap.ok(all("ivchat\\-%s\\fR(1)" % v in r.out for v in VERBS) and "XDG_STATE_HOME" in r.out and "143" in r.out,
       "ivchat(1) names the verbs, variables, exit codes", r.out)
tap.ok("/video FILE" in run("--man", "chat").out and "/video FILE" in run("chat", "--help").out,
       "what can be typed stands in help and manual")
for args in (("--man", "hcat"), ("--completion",), ("--completion", "csh")):
    r = run(*args)
    tap.ok(r.code == 2 and r.out == "" and len(r.lines) == 1, " ".join(args) + " is refused", r)

# ---- bash
DRIVER = """
. "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_ivchat
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash(*words):
    done = subprocess.run(["bash", "--norc", "-c", DRIVER, "bash", path("completion.bash"), "ivchat", *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=SCRATCH.name, env=environment(PATH), check=False)
    return [x for x in done.stdout.decode().split("\n") if x]


if shutil.which("bash"):
    with open(path("completion.bash"), "w", encoding="utf-8") as f:
        f.write(run("--completion", "bash").out)
    tap.ok(set(VERBS) <= set(bash("")) and bash("cha") == ["chat"] and bash("help", "em") == ["embed"], "bash: verbs", bash(""))
    for verb in VERBS:
        tap.ok(sorted(bash(verb, "--")) == sorted(options(verb) + ["--help"]), "bash: options of " + verb, bash(verb, "--"))
    words = run("chat", "--help").out
    words = re.search(r"--variant .*?: ([a-z0-9|]+)", words, re.DOTALL).group(1).split("|")
    tap.ok(bash("chat", "--variant", "") == words and bash("chat", "--variant", "=", words[0][:1])[0] == words[0] and
           bash("chat", "--variant", "=") == words, "bash: words, also behind =", bash("chat", "--variant", "="))
    tap.ok("Q4_K_M" in bash("quantize", "--type", "") and bash("chat", "--cache-type-k", "q") == ["q8_0"],
           "bash: words with capitals and underscores", bash("quantize", "--type", ""))
    tap.ok("clip one.mp4" in bash("chat", "--video", "cl") and "a folder" in bash("chat", "-m", "a") and
           bash("chat", "-m", "cl") == [] and bash("chat", "--temp", "") == [], "bash: files, folders, nothing for numbers",
           bash("chat", "--video", "cl"))
else:
    tap.skip("bash", "bash is not installed")

# ---- fish
if shutil.which("fish"):
    with open(path("ivchat.fish"), "w", encoding="utf-8") as f:
        f.write(run("--completion", "fish").out)

    def fish(line):
        done = subprocess.run(["fish", "--no-config", "-c", "source %s; complete -C '%s'" % (path("ivchat.fish"), line)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=SCRATCH.name, check=False,
                              env=environment({**PATH, "HOME": SCRATCH.name}))
        return [x.split("\t")[0] for x in done.stdout.decode().splitlines()]

    tap.ok(set(VERBS) <= set(fish("ivchat ")) and set(options("chat")) <= set(fish("ivchat chat --")) and
           not set(fish("ivchat tokenize --")) & {"--video"}, "fish: verbs, options of the verb", fish("ivchat chat --"))
    tap.ok(fish("ivchat embed --stage q") == ["qformer"] and any("clip one" in x for x in fish("ivchat chat --video cl")) and
           fish("ivchat chat -m a") == ["a folder/"], "fish: words, files, folders", fish("ivchat chat -m a"))
else:
    tap.skip("fish", "fish is not installed")

# ---- zsh
zsh = shutil.which("zsh")
if zsh:
    os.mkdir(path("site"))
    with open(path("site", "_ivchat"), "w", encoding="utf-8") as f:
        f.write(run("--completion", "zsh").out)
    with open(path(".zshrc"), "w", encoding="utf-8") as f:
        f.write("PS1='zsh%% '; fpath=(%s $fpath); autoload -U compinit; compinit -u -D; LISTMAX=1000\n" % path("site") +
                "unsetopt zle_bracketed_paste; echo ready\n")
    t = Terminal("-i", program=[zsh], columns=200, cwd=SCRATCH.name,
                 env={**PATH, "TERM": "dumb", "HOME": SCRATCH.name, "ZDOTDIR": SCRATCH.name})
    good = t.after("ready", 20)
    for typed, wanted in (("ivchat tok\t", r"ivchat tokenize "), ("ivchat embed --stag\t", r"ivchat embed --stage="),
                          ("ivchat embed --stage qf\t", r"--stage qformer"), ("ivchat chat --vid\t", r"chat --video="),
                          ("ivchat chat --video cl\t", r"--video clip\\ one.mp4"), ("ivchat chat -m a\t", r"-m a\\ folder/"),
                          ("ivchat chat --no-his\t", r"--no-history")):
        t.type(typed)
        tap.ok(good and t.after(wanted), "zsh: " + typed.strip(), t.text[-300:])
        t.type("\x15")
    t.type("exit\n")
    t.wait()
else:
    tap.skip("zsh", "zsh is not installed")
tap.done()

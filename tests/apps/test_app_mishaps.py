#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat` at a terminal when something goes wrong: lost files, late signals, hostile names, bad lines."""
import fcntl
import os
import re
import shutil
import signal
import time

import program
from program import ROOT, Tap, path, run
from terminal import Terminal

tap = Tap()
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
BASE = ["chat", "-m", MODEL, "--dtype", "f32", "-t", "1", "-n", "6"]
PROMPT = r"\x1b\[\?2004h\r> \x1b\[J"


def begin(*args, **kwargs):
    t = Terminal(*(args or BASE), **kwargs)
    t.after(PROMPT)
    return t


def until_blocked(pid):
    """Whether the program comes to wait for its terminal."""
    quiet, end = 0, time.monotonic() + 20
    while quiet < 5 and time.monotonic() < end:
        time.sleep(0.02)
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
            quiet = quiet + 1 if f.read().rsplit(")", 1)[1].split()[0] == "S" else 0
    return quiet == 5


def tell(t, keys, pattern):
    t.type(keys + "\r")
    return t.after(pattern) and t.after(PROMPT)


# ---- the weights are cut while the next question is being typed
if program.sanitized():
    tap.skip("a model file truncated at the prompt", "the sanitizer owns SIGBUS")
else:
    # at any moment: while the prompt is drawn, while the line is typed, when it is asked
    copy, line, seen = path("cut-model"), "a model or media file changed while it was in use", []
    weights = os.path.join(copy, "model.safetensors")
    for i in range(12):
        shutil.copytree(MODEL, copy, copy_function=shutil.copy, dirs_exist_ok=True)
        os.chmod(weights, 0o644)
        t = begin("chat", "-m", copy, "-t", "1", "-n", "6")
        os.truncate(weights, 4096)
        time.sleep(i % 4 * 0.003)
        t.type("/reset\rHello\r")
        told = t.after(line + "\r?\n")
        modes, bracketed = t.modes(), t.screen().modes.get("2004")
        seen.append((t.wait(), told, t.text.count(line), modes, bracketed, t.text))
        os.remove(weights)
    wrong = [x for x in seen if x[:5] != (3, True, 1, (True, True), False)]
    tap.ok(not wrong, "a model file truncated at the prompt: one line, exit 3, the terminal as before", wrong)

# ---- /set stop
t = begin(*BASE, "--stop", "A", "-p", "-", "-p", "next")
good = tell(t, "/set stop B", 'stop +"B"')
t.type("\x04")
tap.ok(good and t.wait() == 0 and len(re.findall("timings: ", t.text)) == 1, "/set stop, then a question of -p", t.text)
t = begin(*BASE, "--stop", "A")
good = tell(t, "/set stop " + 1025 * "x", "--stop: 1025 bytes, at most 1024")
good = good and tell(t, "/set", 'stop +"A"') and tell(t, "Hello", r"timings: ")
t.type("\x04")
tap.ok(good and t.wait() == 0, "a refused /set stop leaves the old one", t.text)

# ---- the history file, the size of the terminal
kept = path("odd-state")
os.makedirs(os.path.join(kept, "ivchat"))
file = os.path.join(kept, "ivchat", "history")
with open(file, "w", encoding="utf-8") as f:
    f.write("whole\ncut off")
t = begin(env={"XDG_STATE_HOME": kept})
good = tell(t, "/stats", "memory  ")
t.type("\x04")
t.wait()
with open(file, encoding="utf-8") as f:
    tap.ok(good and f.read() == "whole\ncut off\n/stats\n", "a history file without a last newline", t.text)
with open(file, encoding="utf-8") as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    t = Terminal(*BASE, env={"XDG_STATE_HOME": kept})
    good = t.after("history: Resource temporarily unavailable; no history is kept") and t.after(PROMPT)
    t.type("\x04")
    tap.ok(t.wait() == 0 and good, "a history file that stays locked is done without", t.text)
if os.geteuid() == 0:
    os.chown(file, 65534, 65534)
    t = begin(env={"XDG_STATE_HOME": kept})
    t.type("\x04")
    tap.ok(t.wait() == 0 and "history: Operation not permitted; no history is kept" in t.text, "another user's history file", t.text)
else:
    tap.skip("another user's history file", "only root can make one")
t = begin()
t.type("\x1b[200~aaa\nbb\ncccc\x1b[201~")
good = t.shows("aaa\nbb\ncccc$")
t.resize(20, 24)
good = good and t.after(r"\r\x1b\[(\d+)A")
up = re.findall(r"\r\x1b\[(\d+)A", t.text)[-1:]
t.type("\x15\x03\x04")
t.wait()
tap.ok(good and up == ["2"], "short rows stay as many in a narrower terminal", (up, t.text))

# ---- what is told about the line itself
t = begin(env={"XDG_STATE_HOME": os.path.join(MODEL, "config.json")})
tap.ok(tell(t, "Hello", "history: Not a directory; no history is kept"), "no history can be kept: told", t.text)
t.type("\x1b[200~" + 1048574 * "x" + "\x1b[201~ab")
t.after("ab", 60)
tap.ok(tell(t, "\u3042", "a line of 1048579 bytes; at most 1048576 are accepted"), "a line that is too long: told", t.text[-300:])
t.type("\x04")
t.wait()
t = Terminal(*BASE, env={"TERM": "dumb"})
t.after("> ")
os.write(t.fd, b"ab\xffc\n")
tap.ok(t.after("byte 3 of the line is not text in UTF-8"), "bytes that are no text: told", t.text)
t.type("\x04")
t.wait()

# ---- signals
t = begin("chat", "-m", MODEL, "-t", "1", "-q", "--json", "--ignore-eos", "-n", "6000")
t.type("Tell me\r")
t.after(r'\{"turn":1')
blocked = until_blocked(t.pid)  # nobody reads the rest of the answer
os.kill(t.pid, signal.SIGINT)
time.sleep(0.1)
good = t.after("\\}\r\n") and t.after(PROMPT) and tell(t, "/stats", "turns +1 in the conversation")
t.type("\x04")
tap.ok(blocked and good and t.wait() == 0, "a Ctrl-C that finds nothing to stop does not end the program", t.text[-300:])
t = begin()
t.type("half")
t.after("half")
t.type("\x1c")
ended = t.after(r"\x1b\[\?2004l")
time.sleep(0.1)
modes = t.modes()
tap.ok(ended and t.wait() == -signal.SIGQUIT and modes == (True, True), "Ctrl-\\ at the prompt: the terminal as before", (modes, t.text))
t = Terminal(*BASE, "--log-json")
t.until('"message":"tiny-model')
t.type("/stats\n")
t.until("memory  ")
t.type("\x04")
code = t.wait()
lines = [x for x in t.text.replace("\r", "").splitlines() if x not in ("/stats", "^D\b\b")]
tap.ok(code == 0 and len(lines) > 3 and all(x.replace("^D\b\b", "").startswith("{") for x in lines), "--log-json: no prompt, no bare newline", t.text)

# ---- what is saved, and over what
precious, talk = path("precious.txt"), path("kept.ivchat")
with open(precious, "w", encoding="utf-8") as f:
    f.write("not a conversation\n")
t = begin()
good = tell(t, "/save " + talk, "the conversation has no turn") and not os.path.exists(talk)
good = good and tell(t, "Hello", "timings: ") and tell(t, "/save " + precious, "exists and is not a saved conversation")
good = good and tell(t, "/save " + talk, "saved 1 turn") and tell(t, "More?", "timings: ") and tell(t, "/save " + talk, "saved 2 turns")
t.type("\x04")
with open(precious, encoding="utf-8") as f:
    tap.ok(t.wait() == 0 and good and f.read() == "not a conversation\n", "/save replaces saved conversations only", t.text)
r = run(*BASE, "-p", "x", "--save", precious)
tap.ok(r.code == 1 and "precious.txt: exists and is not" in r.err and r.out == "", "--save over another file: refused before any work", r)


def turns(file):
    """Turns in the file, which is taken away; None = there is none."""
    r = run(*BASE, "-v", "--load", file, "-p", "x")
    if os.path.exists(file):
        os.remove(file)
    found = re.search(r"(\d+) turns", r.err)
    return int(found.group(1)) if r.code == 0 and found else None


os.remove(talk)
r = run(*BASE, "-q", "--ctx", "300", "-p", "one", "-p", 400 * "long ", "--save", talk)
tap.ok(r.code == 5 and turns(talk) == 1, "--save after a -p that failed: its exit code, the turns before it", r)
for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
    t = begin("chat", "-m", MODEL, "--dtype", "f32", "-t", "1", "-n", "6", "--save", talk)
    tell(t, "Hello", "timings: ")
    os.kill(t.pid, number)
    code = t.wait()
    n = turns(talk)
    tap.ok((code, n) == (expected, 1), "--save after %s" % number.name, (code, n, t.text))
r = run(*BASE, "--save", talk)
tap.ok(r.code == 0 and "no turn" in r.err and not os.path.exists(talk), "--save without a question: no file", r)

# ---- names that would steer the terminal; what does not fit
os.mkdir(path("names"))
hostile = ["clip a\u0085", "clip b\u009b31m", "clip c\u202etxt", "clip d\u061c", "clip e", "clip f"]
for name in hostile:
    with open(os.path.join(path("names"), name), "w", encoding="utf-8"):
        pass
steering = "[\u0080-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
t = begin(cwd=path("names"))
t.type("/video clip \t\t")
listed = t.shows("clip e +clip f\n")
t.type("\x15")
good = tell(t, "/video " + os.path.abspath(os.path.join(path("names"), "x")), "No such file")
t.type("\x04")
t.wait()
r = run(*BASE, "--video", "absent\u202e\u009b\u061c", "-p", "x")
tap.ok(listed and not re.search(steering, t.text + r.err) and "absent\\xe2\\x80\\xae\\xc2\\x9b\\xd8\\x9c" in r.err,
       "names that would steer the terminal are not shown", (t.text, r))
t = begin()
t.type("\u732b\x1b[200~" + 350000 * "\u732b" + "\x1b[201~")
good = t.after("\\anot pasted: 1050000 bytes, a line has at most 1048576\r\n", 60) and t.shows("> \u732b$")
t.type("\x15\x04")
tap.ok(good and t.wait() == 0, "a paste that does not fit in bytes: told, the line as before", t.text[-300:])

# ---- a person's own table of keys
for mode in ("-e", "-v"):
    with open(path("editrc" + mode), "w", encoding="utf-8") as f:
        f.write("bind %s\n" % mode)
    t = begin(*BASE, "-q", "--json", env={"EDITRC": path("editrc" + mode)})
    t.type("ab\x1b[200~x\t/quit\r\u732b\x1b[201~cd")
    good = t.shows("> abx +/quit\n\u732bcd$")
    if mode == "-v":
        t.type("\x1b")
        time.sleep(0.1)
        t.type("0xA!")
        good = good and t.shows("> bx +/quit\n\u732bcd!$|> abx +/quit\nd!|\u732bcd!$")
    t.type("\x03")  # vi's Ctrl-U may leave what stands behind the cursor
    good = good and t.after(PROMPT)
    t.type("/vi\t")
    good = good and t.shows("> /video ?$")
    t.type("\x03")
    good = good and t.after(r"\^C\r+\n") and t.after(PROMPT)
    t.type("\x04")
    tap.ok(t.wait() == 0 and good, "bind %s in the person's editrc: paste and Tab work" % mode, t.shown())
tap.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat` at a terminal when something goes wrong: lost files, late signals, hostile names, bad lines."""
import os
import re
import shutil
import signal
import time

import program
from program import ROOT, Tap, path
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
    copy = path("cut-model")
    shutil.copytree(MODEL, copy, copy_function=shutil.copy)
    weights = os.path.join(copy, "model.safetensors")
    os.chmod(weights, 0o644)
    t = begin("chat", "-m", copy, "-t", "1", "-n", "6")
    os.truncate(weights, 4096)
    t.type("/reset\r")
    told = t.after("a model or media file changed while it was in use\r?\n")
    modes, bracketed = t.modes(), t.screen().modes.get("2004")
    tap.ok(told and t.wait() == 3 and modes == (True, True) and bracketed is False,
           "a model file truncated at the prompt: one line, exit 3, the terminal as before", (modes, t.text))

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
tap.done()

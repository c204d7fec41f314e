#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat` at a terminal when something goes wrong: lost files, late signals, hostile names, bad lines."""
import os
import re
import shutil

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
tap.done()

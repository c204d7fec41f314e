#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat` typed at a terminal: what is refused or told instead of being lost, overwritten or obeyed."""
import os
import shutil

from program import ROOT, Tap, make_video, path, run, sanitized
from terminal import Terminal

tap = Tap()
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
BASE = ["chat", "-m", MODEL, "--dtype", "f32", "-t", "1", "-n", "4"]
PROMPT = r"\x1b\[\?2004h\r> \x1b\[J"


def content(name):
    with open(name, "rb") as f:
        return f.read()


# ---- saving
clip = make_video()
before = content(clip)
t = Terminal(*BASE)
t.after(PROMPT)
t.type("/save %s\r" % path("empty.ivchat"))
good = t.after("/save: nothing has been asked yet") and t.after(PROMPT)
tap.ok(good and not os.path.exists(path("empty.ivchat")), "/save without a turn", t.text)
t.type("Hello\r")
t.after(PROMPT)
t.type("/save %s\r" % clip)
good = t.after("exists and is no saved conversation") and t.after(PROMPT)
tap.ok(good and content(clip) == before, "/save does not overwrite a video", t.text)
talk = path("talk.ivchat")
for _ in range(2):
    t.type("/save %s\r" % talk)
    t.after("saved 1 turns")
    t.after(PROMPT)
tap.ok(content(talk)[:8] == b"IVCHCONV", "/save writes a conversation, and over one", t.text)
t.type("\x04")
tap.ok(t.wait() == 0, "and the conversation ends well", t.text)
r = run(*BASE, "-p", "Hello", "--save", clip)
tap.ok(r.code == 2 and "no saved conversation" in r.err and content(clip) == before, "--save does not overwrite a video", r)

# ---- stop texts
t = Terminal(*BASE, "--stop", "zzz", "-p", "-", "-p", "next")
t.after(PROMPT)
t.type("/set stop %s\r" % ("x" * 1100))
good = t.after("1024") and t.after(PROMPT)
t.type("Hello\r")
good = good and t.after("timings|\n") and t.after(PROMPT)
tap.ok(good and "stop: text" not in t.text[t.text.rindex("Hello"):], "a refused /set stop leaves what was there", t.text)
t.type("/set stop qqq\r")
t.after("stop")
t.after(PROMPT)
t.type("\x04")
tap.ok(t.wait() == 0, "/set stop ends with the typed part of the questions", t.text[-400:])

# ---- the person's own key bindings
for mode in ("e", "v"):
    rc = path("editrc-" + mode)
    with open(rc, "w", encoding="utf-8") as f:
        f.write("bind -%s\n" % mode)
    t = Terminal(*BASE, "-q", "--json", env={"EDITRC": rc})
    t.after(PROMPT)
    t.type("\x1b[200~one\rtwo\x1b[201~\r")
    good = t.after(r'\{"turn":1.*\}\r\n') and t.after(PROMPT)
    tap.ok(good and '"turn":2' not in t.text, "a paste is one question with bind -%s in EDITRC" % mode, t.text)
    t.type("\x04" if mode == "e" else "\x03")
    t.wait()

# ---- file names
folder = path("names")
os.makedirs(folder, exist_ok=True)
for name in ("x\u009b31mA", "x\u202egnp", "x1.mp4", "x2.mp4"):
    with open(os.path.join(folder, name), "w", encoding="utf-8"):
        pass
t = Terminal(*BASE)
t.after(PROMPT)
t.type("/video %s/x\t\t" % folder)
good = t.after(r"x1\.mp4")
tap.ok(good and "\u009b" not in t.text and "\u202e" not in t.text, "Tab shows no name that would steer the terminal", ascii(t.text))
t.type("\x15\x04")
t.wait()
r = run(*BASE, "--video", os.path.join(folder, "x\u009b31mA"), "-p", "Hello")
tap.ok(r.code == 4 and "\u009b" not in r.err and "\\xc2\\x9b" in r.err, "nor does an error", ascii(r.err))

# ---- a weight file that is cut while it is used
if sanitized():
    tap.skip("a cut weight file", "the sanitizer owns SIGBUS")
else:
    cut = path("cut-model")
    shutil.copytree(MODEL, cut)
    t = Terminal("chat", "-m", cut, "--dtype", "f32", "-t", "1", "-n", "4")
    t.after(PROMPT)
    weights = os.path.join(cut, "model.safetensors")
    os.truncate(weights, 4096)
    t.type("Hello\r")
    good = t.after("changed while it was in use")
    tap.ok(good and t.wait() == 3 and t.screen().modes.get("2004") is not True, "a cut weight file: told, exit 3, the terminal as it was", t.text)
tap.done()

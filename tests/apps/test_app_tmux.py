#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A conversation in a real terminal emulator (tmux): editing, Japanese input, stop, regenerate. What the screen shows at the
end is printed, so that it can be looked at."""
import os
import re
import shutil
import subprocess
import time

from program import IVCHAT, ROOT, SCRATCH, Tap, environment, path

tap = Tap()
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
TMUX = shutil.which("tmux")
if not TMUX:
    tap.skip("tmux", "tmux is not installed")
    tap.done()
SOCKET = path("tmux")


def tmux(*args):
    return subprocess.run([TMUX, "-u", "-S", SOCKET, "-f", "/dev/null", *args], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=environment({"TERM": "xterm-256color"}), check=False).stdout.decode()


def keys(*names):
    tmux("send-keys", *names)


def shows(pattern, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rows = tmux("capture-pane", "-p", "-J", "-S", "-400").split("\n")
        if re.search(pattern, "\n".join(row.rstrip() for row in rows), re.MULTILINE):
            return True
        time.sleep(0.05)
    return False


def cursor():
    return tuple(int(x) for x in tmux("display-message", "-p", "#{cursor_x} #{cursor_y}").split())


tmux("new-session", "-d", "-x", "110", "-y", "30", "-c", SCRATCH.name,
     "'%s' chat -m '%s' -t 1 --ignore-eos -n 12; echo EXIT $?; sleep 60" % (IVCHAT, MODEL))
try:
    good = shows("^>$")
    keys("-l", "動画で何が見見えますか？🎬")
    good = good and shows("^> 動画で何が見見えますか？🎬$")
    keys(*["Left"] * 7)
    keys("BSpace")
    tap.ok(good and shows("^> 動画で何が見えますか？🎬$") and cursor()[0] == 2 + 2 * 5, "Japanese, corrected in the middle",
           (cursor(), tmux("capture-pane", "-p")))
    keys("Enter")
    tap.ok(shows("12 tokens in"), "an answer", tmux("capture-pane", "-p"))
    keys("-l", "/set max-new-tokens 20000")
    keys("Enter")
    shows("max-new-tokens +20000")
    keys("-l", "Tell me more")
    keys("Enter")
    shows("(?s)^> Tell me more\n.{40}")
    keys("C-c")
    tap.ok(shows("^stopped; /regen asks again"), "stopped", tmux("capture-pane", "-p"))
    keys("-l", "/set max-new-tokens 12")
    keys("Enter")
    shows("max-new-tokens +12 ")
    keys("-l", "/reg")
    keys("Tab")
    good = shows("^> /regen$")
    keys("Enter")
    tap.ok(good and shows("(?s)/regen\n.*12 tokens in"), "completed and asked again", tmux("capture-pane", "-p"))
    keys("Up", "Up", "Up")
    tap.ok(shows("^> Tell me more$"), "an earlier line", tmux("capture-pane", "-p"))
    keys("C-u")
    keys("C-d")
    tap.ok(shows("^EXIT 0$"), "the end", tmux("capture-pane", "-p"))
    print("# the screen:")
    rows = tmux("capture-pane", "-p", "-S", "-400").rstrip().split("\n")
    for row in rows if len(rows) < 40 else rows[:14] + ["..."] + rows[-16:]:
        print("# | " + row)
finally:
    tmux("kill-server")
tap.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat chat` typed at a terminal: editing, history, completion, paste, commands, stopping, plain terminals."""
import json
import os
import re
import shutil
import signal
import stat
import time

from program import ROOT, SCRATCH, Tap, environment, make_image, make_video, path, run
from terminal import Terminal

tap = Tap()
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
BASE = ["chat", "-m", MODEL, "--dtype", "f32", "-t", "1", "-n", "6"]
PROMPT = r"\x1b\[\?2004h\r> \x1b\[J"
LEFT, UP, DELETE = "\x1b[D", "\x1b[A", "\x1b[3~"
clip, picture = make_video(), make_image()


class Talk(Terminal):
    """Answers come as JSON, so that what the model was asked can be seen from outside."""

    def __init__(self, *args, env=None, **kwargs):
        super().__init__(*BASE, "-q", "--json", *args, env=env, **kwargs)

    def prompt(self):
        return self.after(PROMPT + r"|(^|\n)> ")

    def ask(self, keys, enter="\r"):
        self.type(keys + enter)
        if not self.after(r'\{"turn".*\}\r\n'):
            return {"response": "no answer", "token_ids": None, "cached_tokens": -1, "prompt_tokens": -1}
        begin = self.text.rindex('{"turn"', 0, self.seen)
        answer = json.loads(self.text[begin:self.seen])
        self.prompt()
        return answer

    def tell(self, keys, pattern):
        """A command and what it says."""
        self.type(keys + "\r")
        return self.after(pattern) and self.prompt()

    def end(self):
        self.type("\x04")
        return self.wait()


def ids(*questions, media=()):
    out = run(*BASE, "-q", "--json", *media, *[a for q in questions for a in ("-p", q)]).out
    return [json.loads(line)["token_ids"] for line in out.splitlines()]


# ---- editing
JAPANESE = "何が見えますか？🎬"
t = Talk()
good = t.prompt()
answer = t.ask(JAPANESE)
tap.ok(good and answer["token_ids"] == ids(JAPANESE)[0] and "\n> " + JAPANESE + "\n" in "\n" + t.shown(), "Japanese and an emoji, as typed",
       t.shown())
t.type("どん犬な🐕猫?" + LEFT * 2 + "\x7f" + LEFT + "\x08")
edited = "どんな猫?"
shown = t.shows(re.escape("> " + edited) + "$")
screen = t.screen()
tap.ok(shown and screen.column == 2 + 2 * 2, "wide characters: cursor and erasing", (screen.column, t.shown()))
answer = t.ask("")
tap.ok(answer["token_ids"] == ids(JAPANESE, edited)[1], "the edited question is what the model reads", answer)
answer = t.ask("old\x15WWhat\x1b[1~" + DELETE + "\x05 is it again\x17now?")
tap.ok(answer["token_ids"] == ids(JAPANESE, edited, "What is it now?")[2], "Home, Delete, End, Ctrl-U, Ctrl-W", t.shown())
t.type("a question that is longer than one row of this terminal, since rows have eighty cells and it has more")
tap.ok(t.shows("have eight\ny cells and it has more$") and t.screen().column == 23, "a long line goes on in the next row", t.shown())
t.type("\x03")
tap.ok(t.after(r"\^C\r+\n") and t.prompt(), "Ctrl-C takes the line away", t.shown())
answer = t.ask("//etc is a folder?")
tap.ok(answer["token_ids"] == ids(JAPANESE, edited, "What is it now?", "/etc is a folder?")[3],
       "// begins a question with a slash", (answer, t.shown()))
code = t.end()
tap.ok(code == 0 and t.screen().modes.get("2004") is False, "Ctrl-D ends; pastes are plain again", t.shown())

# ---- paste
t = Talk()
t.prompt()
answer = t.ask("First: \x1b[200~one line\r/quit\ttab \x1b[31mred\r\x1b[201~ end")
pasted = "First: one line\n/quit\ttab [31mred end"
tap.ok(answer["token_ids"] == ids(pasted)[0] and answer["turn"] == 1, "a paste of lines is one question and no command", t.shown())
answer = t.ask("one\x1b\rtwo")
tap.ok(answer["token_ids"] == ids(pasted, "one\ntwo")[1], "Alt-Enter begins a new line", t.shown())
t.end()

# ---- history
state = path("state", "ivchat", "history")
with open(state, encoding="utf-8") as f:
    kept = f.read().splitlines()
tap.ok(JAPANESE in kept and edited in kept and "one\\ntwo" in kept and stat.S_IMODE(os.stat(state).st_mode) == 0o600 and
       stat.S_IMODE(os.stat(os.path.dirname(state)).st_mode) == 0o700, "the history file: entries, 0600", kept)
with open(state, "w", encoding="utf-8") as f:
    f.write("".join("old %d\n" % i for i in range(2500)) + "bad \\x\n\x1b[2J\nwhat is red?\nsecond one\n")
os.chmod(state, 0o644)
t = Talk()
t.prompt()
answer = t.ask(UP + UP)
tap.ok(answer["token_ids"] == ids("what is red?")[0] and "\x1b[2J" not in t.text, "arrow keys reach earlier conversations", t.shown())
t.type("\x12old 24")
found = t.shows("bck:old 24")
t.type("\r")
tap.ok(found and t.after(r'\{"turn":2') and t.prompt() and "old 2499" in t.shown(), "Ctrl-R searches", t.shown())
t.ask(" a secret")
t.end()
with open(state, encoding="utf-8") as f:
    kept = f.read().splitlines()
tap.ok(1000 <= len(kept) <= 1010 and kept[-1] == "old 2499" and kept[-2] == "what is red?" and
       stat.S_IMODE(os.stat(state).st_mode) == 0o600, "the history is bounded; a line that begins with a blank is not kept",
       (len(kept), kept[-4:]))
before = os.stat(state).st_size
t = Talk("--no-history")
t.prompt()
t.ask("not kept")
good = UP not in t.text and t.ask(UP)["turn"] == 2
t.end()
tap.ok(good and os.stat(state).st_size == before, "--no-history reads and writes none, arrow keys work", t.shown())
t = Talk(env={"XDG_STATE_HOME": "/proc/nowhere"})
t.prompt()
tap.ok(t.ask("still asked")["token_ids"] is not None and t.end() == 0, "no history file: the conversation works", t.shown())

# ---- completion
folder = path("my files")
os.mkdir(folder)
for name in ("clip one.y4m", "clip two.y4m", "猫の動画.y4m"):
    shutil.copy(clip, os.path.join(folder, name))
t = Talk(cwd=SCRATCH.name)
t.prompt()
t.type("/vi\t")
good = t.shows(r"> /video $|> /video$")
t.type("my\t")
good = good and t.shows(r"> /video my files/$")
t.type("c\t")
good = good and t.shows(r"> /video my files/clip $|> /video my files/clip$")
t.type("\t")
good = good and t.shows(r"clip one.y4m +clip two.y4m\n> /video my files/clip")
tap.ok(good, "Tab: command, folder, shared beginning, list", t.shown())
t.type("o\t")
good = t.shows(r"> /video my files/clip one.y4m$")
answer = t.ask("\rWhat happens?")
tap.ok(good and answer["video"]["path"] == "my files/clip one.y4m", "a name with blanks, completed and opened", t.shown())
t.type("/video my files/猫\t")
good = t.shows(r"> /video my files/猫の動画.y4m$")
t.type("\x15/se\t\x15/set temp\t")
good = good and t.shows(r"> /set temp $|> /set temp$")
t.type("\x15/set ignore-eos o\t")
tap.ok(good and t.shows("off  on\n> /set ignore-eos o$"), "Japanese names; names and values of /set", t.shown())
t.type("\x15question\t")
bells = t.screen().bells
t.shows("> question$")
t.type("\x15")
tap.ok(t.end() == 0, "Tab in a question does nothing", bells)

# ---- commands
os.chmod(state, 0o644)
t = Talk()
t.prompt()
tap.ok(stat.S_IMODE(os.stat(state).st_mode) == 0o600, "a history that others could read is closed to them")
tap.ok(t.tell("/help", r"/quit +end"), "/help", t.shown())
with open(os.path.join(ROOT, "docs", "COMMANDS.md"), encoding="utf-8") as f:
    docs = set(re.findall(r"`(/[a-z]+)", f.read()))
listed = set(re.findall(r"^ +(/[a-z]+)", t.text.replace("\r", ""), re.MULTILINE))
tap.ok(len(listed) > 8 and not listed - docs, "docs/COMMANDS.md has every command of /help", listed - docs)
tap.ok(t.tell("/vidoe x", r"no command /vidoe, did you mean /video\?") and t.tell("/zzz", r"no command /zzz \(/help"),
       "an unknown command suggests the nearest", t.shown())
first = t.ask("Hello there")
tap.ok(t.tell("/video " + path("absent.mp4"), r"absent.mp4: No such file") and t.tell("/image " + MODEL, "a directory, not") and
       t.tell("/video", "/video: needs a file") and t.tell("/load " + clip, "clip.y4m: "),
       "files that cannot be opened are told", t.shown())
second = t.ask("What next?")
tap.ok([first["token_ids"], second["token_ids"]] == ids("Hello there", "What next?") and second["turn"] == 2,
       "after failures the conversation goes on", second)
tap.ok(t.tell("/reset", "a new conversation") and t.ask("Hello there")["token_ids"] == first["token_ids"], "/reset", t.shown())
good = t.tell("/video '%s'" % clip, r"video: \d+ of 20 frames, 64x48; a new conversation")
answer = t.ask("What happens?")
video = ["--video", clip]
tap.ok(good and answer["token_ids"] == ids("What happens?", media=video)[0] and answer["video"]["path"] == clip and
       answer["timings"]["decode_video_ms"] > 0, "/video: another conversation, about the video", answer)
answer = t.ask("And then?")
plain = json.loads(run(*BASE, "-q", "--json", *video, "-p", "What happens?", "-p", "And then?").out.splitlines()[1])
tap.ok(answer["token_ids"] == plain["token_ids"] and answer["timings"]["decode_video_ms"] == 0, "the second question about it",
       answer)
good = t.tell("/image " + picture, "1 image; a new conversation") and t.tell("/image " + picture, "2 images")
answer = t.ask("What differs?")
tap.ok(good and answer["token_ids"] == ids("What differs?", media=["--image", picture, "--image", picture])[0],
       "/image twice: both images", answer)
good = t.tell("/image " + picture, "1 image; a new conversation")
tap.ok(good and t.ask("One?")["token_ids"] == ids("One?", media=["--image", picture])[0],
       "an image after a question: alone, in a new conversation", t.shown())
tap.ok(t.tell("/set", r"max-new-tokens +6 ") and t.tell("/set max-new 3", "did you mean max-new-tokens") and
       t.tell("/set top-p 7", r"top-p: expected a number in \(0,1\]") and t.tell("/set threads 2", "is fixed when ivchat starts"),
       "/set: list, suggestion, range, what is fixed", t.shown())
good = t.tell("/set max-new-tokens 2", r"max-new-tokens +2 ") and len(t.ask("Short?")["token_ids"]) == 2
tap.ok(good and t.tell("/set max-new-tokens", r"max-new-tokens +200 "), "/set changes an option and takes it back", t.shown())
t.tell("/set max-new-tokens 6", "6")
t.tell("/set temp 5", "temp +5")
one = t.ask("Any word?")
two = t.ask("/regen")
same = json.loads(run(*BASE, "-q", "--json", "--temp", "5", "--seed", "1", "--image", picture, "-p", "x").out)
tap.ok(one["token_ids"] != two["token_ids"] and one["prompt_tokens"] == two["prompt_tokens"] and same["token_ids"],
       "/regen when sampling: another answer to the same question", (one, two))
tap.ok(t.tell("/stats", r"answers +\d+ prompt tokens") and "turns         3 in the conversation" in t.text, "/stats", t.shown())
saved = path("saved conversation")
good = t.tell("/save " + saved, "saved 3 turns")
go_on = t.ask("And now?")
t.tell("/reset", "new conv")
good = good and t.tell("/load " + saved, "loaded 3 turns")
tap.ok(good and t.ask("And now?")["token_ids"] == go_on["token_ids"], "/save, /load: the same tokens as never having left", t.shown())
t.type("/quit\r")
tap.ok(t.wait() == 0, "/quit")
t = Talk()
t.prompt()
good = t.tell("/load " + saved, "loaded 3 turns") and t.ask("And now?")["token_ids"] == go_on["token_ids"]
tap.ok(good and t.end() == 0, "/load in another process", t.shown())

t = Talk("--time-text")
t.prompt()
t.tell("/video " + clip, "video: ")
good = t.ask("When?")["token_ids"] == ids("When?", media=["--video", clip, "--time-text"])[0]
good = good and t.tell("/image " + picture, "1 image") and t.ask("One?")["token_ids"] == ids("One?", media=["--image", picture])[0]
tap.ok(good and t.end() == 0, "--time-text counts for a video named later, an image has none", t.shown())

t = Talk("--no-quiet", "--num-frames", "3", "--padding", "--msg", "x")
good = t.prompt()
t.tell("/video " + clip, "video: 3 of 20 frames")
seen = t.ask("What?").get("video") or {}
tap.ok(good and "no effect" not in t.text and len(seen.get("frame_indices", "")) == 3 and seen["tiles"] == [2, 2] and t.end() == 0,
       "media options count for a video named later, and nothing says they have no effect", t.shown())

# ---- what stands before the question is prefilled while it is typed
def until_idle(pid):
    """Waits until no thread of the program has run for a while."""
    quiet, end = 0, time.monotonic() + 20
    while quiet < 5 and time.monotonic() < end:
        time.sleep(0.05)
        states = []
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/stat" % (pid, task), encoding="utf-8", errors="replace") as stat_file:
                states.append(stat_file.read().rsplit(")", 1)[1].split()[0])
        quiet = 0 if set(states) & {"R", "D"} else quiet + 1


t = Talk(*video)
t.prompt()
until_idle(t.pid)
first = t.ask("What happens?")
until_idle(t.pid)
second = t.ask("And then?")
t.end()
tap.ok(first["cached_tokens"] > 0 and first["timings"]["vision_ms"] == 0 and second["cached_tokens"] > plain["cached_tokens"]
       and second["token_ids"] == plain["token_ids"], "video and history are prefilled meanwhile, same tokens",
       (first["cached_tokens"], second["cached_tokens"], plain["cached_tokens"], first["timings"]))

# ---- stopping
LONG = ["chat", "-m", MODEL, "-t", "1", "--ignore-eos", "-n", "20000"]
t = Terminal(*LONG)
t.after(PROMPT)
t.type("Tell me\r")
t.after(r"\r\n.{30}")
t.type("\x03")
good = t.after(r"stopped; /regen asks again\r\n") and t.after(PROMPT)
t.type("/set max-new-tokens 5\r")
t.after(PROMPT)
t.type("/regen\r")
tap.ok(good and t.after(r"timings: .*5 tokens in") and t.after(PROMPT), "Ctrl-C stops the answer, /regen asks again", t.shown())
t.type("half a line")
t.after("half a line")
t.type("\x03")
good = t.after(r"\^C\r+\n") and t.after(PROMPT)
echo_raw = t.modes()
t.type("\x03")
code = t.wait()
tap.ok(good and code == 130 and echo_raw == (False, False), "Ctrl-C clears a line; on an empty one it ends with 130", t.shown())
for number, expected in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
    t = Terminal(*BASE)
    t.after(PROMPT)
    t.type("half")
    t.after("half")
    os.kill(t.pid, number)
    ended = t.after(r"\x1b\[\?2004l")
    tap.ok(ended and t.wait() == expected, "%s while a line is edited: %d" % (number.name, expected), t.shown())
t = Terminal(*BASE, columns=60)
t.after(PROMPT)
t.type("resized while typing")
t.after("typing")
t.resize(30, 24)
t.columns = 30
t.type(" goes on")
tap.ok(t.shows("goes on$") and t.modes() == (False, False), "the terminal changes its size", t.shown())
t.type("\x15\x04")
t.wait()
bash = shutil.which("bash")
if bash:
    t = Terminal("--norc", "--noprofile", "-i", program=[bash], env={"PS1": "shell% ", "ENV": ""})
    t.after("shell% ")
    t.type(" ".join([os.environ.get("IVCHAT", os.path.join(ROOT, "build", "ivchat")), *BASE]) + "\n")
    t.after(PROMPT)
    t.type("half")
    t.after("half")
    t.type("\x1a")
    stopped = t.after("Stopped") and t.after("shell% ")
    t.type("stty -a | grep -o ' -*icanon'; fg\n")
    stopped = stopped and t.after(r"[\r\n] icanon") and t.after(r"2004h\r> half")
    t.type("\x15/quit\r")
    stopped = stopped and t.after("shell% ")
    t.type("exit\n")
    tap.ok(stopped and t.wait() == 0, "Ctrl-Z gives the terminal back, fg goes on with the line", t.text[-600:])
else:
    tap.skip("Ctrl-Z", "no bash")

# ---- plain terminals
t = Talk(env={"TERM": "dumb"})
good = t.prompt()
answer = t.ask(JAPANESE, enter="\n")
good = good and answer["token_ids"] == ids(JAPANESE)[0]
good = good and t.tell("/vidoe", "did you mean /video") and t.tell("/reset", "a new conversation")
t.type("\x04")
tap.ok(t.wait() == 0 and good and "\x1b" not in t.text, "TERM=dumb: questions and commands without escape codes", t.text)
t = Terminal(*LONG, env={"TERM": "dumb"})
t.after("> ")
t.type("Tell me\n")
t.after(r"\r\n.{30}")
t.type("\x03")
good = t.after("stopped; .*\r\n> ")
t.type("\x03")
tap.ok(good and t.wait() == 130 and "\x1b" not in t.text, "TERM=dumb: Ctrl-C once and twice", t.text[-300:])
t = Terminal(*BASE, env={"NO_COLOR": "1"})
t.after(PROMPT)
t.type("/video /absent\r")
good = t.after("absent: No such file") and t.after(PROMPT)
t.type("\x04")
tap.ok(t.wait() == 0 and good and not re.search(r"\x1b\[[\d;]*m", t.text), "NO_COLOR: no colours", t.text)
for locale in ("C", "POSIX", "xx_XX.UTF-8"):
    t = Talk(env={"LC_ALL": locale, "LANG": locale})
    t.prompt()
    answer = t.ask(JAPANESE)
    tap.ok(answer["token_ids"] == ids(JAPANESE)[0] and t.end() == 0, "locale %s: UTF-8 all the same" % locale, t.shown())
r = run(*BASE, "-q", stdin="/help\nHello there\n")
tap.ok(r.code == 0 and r.err == "" and len(r.out.splitlines()) >= 2, "a pipe: lines are questions, no commands, no prompt", r)
tap.done()

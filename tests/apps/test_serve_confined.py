#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The decoding process in the hands of a stranger: what it tries ends it, the client hears 415, the server lives.

The stranger is tests/serve/escape.c, loaded in front of everything else.
"""
import os
import re
import signal
import subprocess
import threading

import program
from program import Tap
from serverrig import MEDIA, VIDEO, Server, data_url, image, video

tap = Tap()
model = program.TINY
ESCAPE = os.environ.get("IVCHAT_TEST_ESCAPE", os.path.join(os.path.dirname(program.IVCHAT), "tests", "libescape.so"))
if not os.path.exists(ESCAPE):
    tap.skip("confinement", "no escape module: not built for sanitizers")
    tap.done()
with open(os.path.join(program.ROOT, "apps", "serve", "decodewire.h"), encoding="ascii") as f:
    VERB = re.search(r'DECODE_VERB "([^"]+)"', f.read()).group(1)
ASK = "What happens?"


def decode(wish):
    """How a decoding process ends that does as wished."""
    with open(VIDEO, "rb") as media:
        done = subprocess.run([program.IVCHAT, VERB, "video", "8", "0", "0", "0", "14400", "67108864", "120", "3072", ""],
                              stdin=media, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=60,
                              env=program.environment({"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": wish}))
    return done.returncode, len(done.stdout)


code, n = decode("nothing")
tap.ok(code == 0 and n > 8 * 96 * 64 * 3, "a decoder that behaves", (code, n))
for wish in ("socket", "exec", "clone", "kill", "ptrace", "memfd", "prctl", "setrlimit", "getppid", "dup", "pipe", "ioctl",
             "uname", "unlink", "code"):
    code, n = decode(wish)
    tap.ok(code == -signal.SIGSYS and n == 0, "ended at once: " + wish, (code, n))
code, n = decode("open")
tap.ok(code == 78 and n == 0, "no file can be opened", (code, n))

for wish in ("socket", "exec", "open"):
    with Server("--metrics", env={"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": wish}) as s:
        r = s.chat(video(data_url()), ASK)
        tap.ok(r.status == 415 and r.error["code"] == "not_a_video", "the client hears 415: " + wish, r)
        tap.ok(s.chat("Hello?").status == 200 and "ivchat_media_refused_total 1" in s.get("/metrics").body.decode() and
               s.stop() == 143, "the server lives", s.log)
with Server(env={"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": "nothing"}) as s:
    tap.ok(s.chat(video(data_url()), ASK).status == 200, "a decoder that behaves, below a server")

# ---- what it says is not believed
TALL, WIDE = (data_url(os.path.join(MEDIA, n), "image/png") for n in ("exif6.jpg", "photo.jpg"))
with Server(env={"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": "blank"}) as s:
    for turn in range(4):  # what lies in front of the memory of a picture is not always something to trip over
        r = s.chat(image(WIDE), image(TALL), *[image(WIDE)] * turn, ASK)
        tap.ok(r.status == 400 and r.error["code"] == "invalid_media", "a picture without pixels is refused", r)
    tap.ok(s.chat(image(WIDE), image(WIDE), ASK).status == 200 and s.stop() == 143, "the server lives", s.log)


def peak(process):
    with open("/proc/%d/status" % process.pid, encoding="ascii") as status:
        return int(re.search(r"VmPeak:\s+(\d+) kB", status.read()).group(1)) >> 10


with Server(env={"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": "many"}) as s:
    s.chat("Hello?")  # every thread is there
    before = peak(s.process)
    r = s.chat(video(data_url()), ASK)
    tap.ok(r.status == 415 and peak(s.process) < before + 1024, "no memory for more frames than were ordered",
           (r.status, before, peak(s.process)))
    tap.ok(s.chat("Hello?").status == 200 and s.stop() == 143, "the server lives", s.log)

# ---- what it knows
secrets = {"IVCHAT_TEST_SECRET": "x", "TEST_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "OPENAI_API_KEY": "x"}
with Server(env=secrets) as s:
    seen = []

    def look():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    if f.read().split(b"\0")[1:2] != [VERB.encode()]:
                        continue
                with open("/proc/%s/stat" % pid, encoding="ascii", errors="replace") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) != s.process.pid:
                        continue
                with open("/proc/%s/environ" % pid, "rb") as f:
                    seen.append([v.split(b"=")[0].decode() for v in f.read().split(b"\0") if v])
            except (OSError, ValueError):
                pass
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            look()
    thread = threading.Thread(target=watch)
    thread.start()
    for n in range(1, 60):
        s.chat(video(data_url()), ASK, media_io_kwargs={"video": {"num_frames": n}}, max_tokens=1)
        if len(seen) > 2:
            break
    stop.set()
    thread.join()
    names = {v for e in seen for v in e}
    tap.ok(seen and not [v for v in names if not re.match(r"LD_|[A-Z]SAN_|LSAN_|UBSAN_|GLIBC_TUNABLES", v)],
           "the decoder inherits no secrets", names)
tap.done()

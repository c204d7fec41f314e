#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The decoding process in the hands of a stranger: what it tries ends it, the client hears 415, the server lives.

The stranger is tests/serve/escape.c, loaded in front of everything else.
"""
import base64
import hashlib
import os
import re
import signal
import struct
import subprocess
import threading

import program
from program import Tap
from serverrig import VIDEO, Server, data_url, image, read, video

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

# ---- what it says: pictures that are none, and the names of others' pictures
def bmp(width, grey, height=64):
    row = bytes([grey]) * (3 * width + 3 & ~3)
    data = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + len(row) * height, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    name = program.path("w%d-%d.bmp" % (width, grey))
    with open(name, "wb") as f:
        f.write(data + row * height)
    return name


theirs, ours = bmp(96, 200), bmp(100, 30)
with Server(env={"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": "blind:100"}) as s:
    r = s.chat(image(data_url(theirs, "image/bmp")), image(data_url(ours, "image/bmp")), ASK)
    tap.ok(r.status == 400 and s.chat("Hello?").status == 200 and s.stop() == 143, "a second image without pixels", (r, s.log))
with open(theirs, "rb") as f:
    name = hashlib.sha256(f.read()).hexdigest()


def frames(path):
    return video("data:video/jpeg;base64," + ",".join([base64.b64encode(read(path)).decode()] * 2))


with Server(env={"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": "name:100:" + name}) as s:
    r = s.chat(image(data_url(ours, "image/bmp")), ASK)
    honest = [s.chat(image(data_url(theirs, "image/bmp")), ASK) for _ in range(2)]
    hits = [x.json.get("video", {}).get("cache_hit") for x in honest]
    tap.ok(r.status == 415 and hits == [False, True], "an image by another one's name", (r, hits))
    each = [s.chat(frames(x), ASK) for x in (ours, theirs, theirs)]
    hits = [x.json.get("video", {}).get("cache_hit") for x in each]
    tap.ok(hits == [False, False, True], "pictures of a list go by the bytes, not by what the decoder calls them", hits)

with Server(env={"LD_PRELOAD": ESCAPE, "LD_IVCHAT_ESCAPE": "more:0"}) as s:
    r = s.chat(video(data_url()), ASK)
    tap.ok(r.status == 415, "more frames than were asked for", r)

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

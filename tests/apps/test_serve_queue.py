#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The server under several clients: parallel answers, a full queue, deadlines, clients that leave, the end of it."""
import http.client
import json
import os
import socket
import threading
import time

import program
from program import NO_MODEL, Tap
from serverrig import VIDEO, Server, read, video

tap = Tap()
model = program.model()
if not model:
    tap.skip("serve", NO_MODEL)
    tap.done()

LONG = {"ignore_eos": True, "max_tokens": 20000}


def side_by_side(*calls):
    """Results of calls that run at once."""
    out = [None] * len(calls)

    def run(i):
        out[i] = calls[i]()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out


def start_chat(server, body):
    """The socket of a chat that has been sent."""
    text = json.dumps({"messages": [{"role": "user", "content": "Tell me"}], **body}).encode()
    s = socket.create_connection((server.host, server.port))
    s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
    return s


def metric(server, name):
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    return None


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


# ---- parallel answers are those of one after the other
with Server("--parallel", "4", "--metrics", model=model) as s:
    ident = s.post("/v1/videos", read(VIDEO)).json["id"]
    part = {"type": "video", "id": ident}
    asks = [dict(content=[part, "Question %d?" % i], seed=i, temperature=1.0, stream=i % 3 == 0) for i in range(6)]
    asks += [dict(content=["Text %d" % i]) for i in range(6)]
    asks += [dict(content=[part, "Frames %d" % i], media_io_kwargs={"video": {"num_frames": 1 + i}}) for i in range(3)]

    def call(a):
        a = dict(a)
        return s.chat(*a.pop("content"), **a)
    alone = [call(a).content for a in asks]
    for turn in range(2):
        mixed = side_by_side(*[lambda a=a: call(a) for a in asks])
        tap.ok(all(r.status == 200 for r in mixed) and [r.content for r in mixed] == alone,
               "15 answers at once are those of one after the other, round %d" % turn,
               [(r.status, r.content, a) for r, a in zip(mixed, alone)])

# ---- a small queue
with Server("--parallel", "1", "--queue", "2", "--metrics", model=model) as s:
    held = [start_chat(s, LONG) for _ in range(3)]
    tap.ok(until(lambda: metric(s, "ivchat_jobs_running") == 1 and metric(s, "ivchat_jobs_waiting") == 2),
           "one runs, two wait")
    r = s.chat("And me?")
    tap.ok(r.status == 429 and int(r.headers["retry-after"]) >= 1 and r.error["type"] == "rate_limit_error" and
           r.error["code"] == "queue_full", "a full queue: 429 with Retry-After", r)
    tap.ok(s.get("/health").status == 200, "/health answers meanwhile")
    start = time.monotonic()
    held[0].close()  # the one that runs
    tap.ok(until(lambda: metric(s, "ivchat_cancelled_total") == 1) and time.monotonic() - start < 5,
           "a client that leaves frees its work at once", time.monotonic() - start)
    held[1].close()
    held[2].close()
    until(lambda: metric(s, "ivchat_cancelled_total") == 3)
    r = s.chat("And me?")
    tap.ok(r.status == 200, "those who left while they waited make room", r)
    tap.ok(until(lambda: metric(s, "ivchat_jobs_running") == 0 and metric(s, "ivchat_jobs_waiting") == 0), "all idle")
    stream = start_chat(s, dict(LONG, stream=True))
    got = stream.recv(4096)
    tap.ok(b" 200 " in got.split(b"\r\n")[0], "a stream has begun", got[:200])
    stream.close()
    tap.ok(until(lambda: metric(s, "ivchat_jobs_running") == 0), "a client that leaves its stream", s.log)
    tap.ok(until(lambda: metric(s, "ivchat_cancelled_total") == 4), "counts as one who left",
           metric(s, "ivchat_cancelled_total"))
    for _ in range(3):
        tap.ok(s.chat("And me?", stream=True).events[-1] == "[DONE]", "a stream to its end")
    tap.ok(metric(s, "ivchat_cancelled_total") == 4, "does not", metric(s, "ivchat_cancelled_total"))
    before = metric(s, "ivchat_jobs_running")
    # a slow reader does not hold a worker for ever, nor memory
    slow = start_chat(s, dict(LONG, stream=True, max_tokens=300))
    tap.ok(until(lambda: metric(s, "ivchat_jobs_running") == 0, 30), "an answer ends though nobody reads it", before)
    slow.close()

# ---- time limits
with Server("--parallel", "1", "--timeout", "2", "--metrics", model=model) as s:
    r = s.chat("Tell me", **LONG)
    tap.ok(r.status == 503 and r.error["code"] == "timeout" and "retry-after" in r.headers, "a request's time is over", r)
    r = s.chat("Tell me", stream=True, **LONG)
    tap.ok(r.status == 200 and r.events[-1] == "[DONE]" and r.events[-2]["error"]["code"] == "timeout",
           "and in a stream", r.body[-300:])
    first, second = side_by_side(lambda: s.chat("Tell me", **LONG),
                                 lambda: (time.sleep(0.3), s.chat("Tell me", **LONG))[1])
    tap.ok(first.status == 503 and second.status == 503, "waiting counts", second)
    tap.ok(s.chat("Tell me").status == 200, "the next one is answered")

# ---- a crowd: wrong bodies and clients that leave among them
with Server("--parallel", "2", "--queue", "64", "--metrics", model=model) as s:
    good = s.chat("Tell me").content
    bad = []

    def client(n):
        for i in range(6):
            kind = (n + i) % 4
            try:
                if kind == 0:
                    r = s.chat("Tell me")
                    if r.status != 200 or r.content != good:
                        bad.append(r)
                elif kind == 1:
                    start_chat(s, dict(LONG, stream=i % 2 == 0)).close()
                elif kind == 2:
                    r = s.post("/v1/chat/completions", os.urandom(50))
                    if r.status != 400:
                        bad.append(r)
                else:
                    r = s.chat(video("data:video/mp4;base64,AAAA"), "x")
                    if r.status != 415:
                        bad.append(r)
            except OSError as error:
                bad.append(error)
    side_by_side(*[lambda n=n: client(n) for n in range(24)])
    tap.ok(not bad, "24 clients at once", "\n".join(map(str, bad[:5])))
    tap.ok(until(lambda: metric(s, "ivchat_jobs_running") == 0 and metric(s, "ivchat_connections") <= 1), "all gone")
    text = s.get("/metrics").body.decode()
    tap.ok('status="500"' not in text, "no 500", text)
    idle = [socket.create_connection((s.host, s.port)) for _ in range(1000)]
    tap.ok(s.get("/health").status == 200 and s.chat("Tell me").content == good, "1000 idle sockets")
    for x in idle:
        x.close()

# ---- the end
with Server("--parallel", "1", "--metrics", model=model) as s:
    result = []
    thread = threading.Thread(target=lambda: result.append(s.chat("Tell me", ignore_eos=True, max_tokens=400)))
    thread.start()
    until(lambda: metric(s, "ivchat_jobs_running") == 1)
    code = s.stop()
    thread.join()
    tap.ok(code == 143 and result and result[0].status == 200 and
           result[0].json["usage"]["completion_tokens"] == 400, "SIGTERM lets the running answer finish",
           (code, str(result[0]) if result else None))

# ---- answers that take longer than the server waits
with Server("--parallel", "2", "--metrics", "--grace", "0.5", model=model) as s:
    ages = {"ignore_eos": True, "max_tokens": 10 ** 6, "n": 16}
    threads, told = [], {}
    for name, stream in (("running", False), ("running stream", True), ("waiting", False), ("waiting stream", True)):
        def go(name=name, stream=stream):
            try:
                told[name] = s.chat("Tell me", stream=stream, **ages)
            except (OSError, http.client.HTTPException) as error:
                told[name] = error
        threads.append(threading.Thread(target=go))
        threads[-1].start()
        tap.ok(until(lambda: metric(s, "ivchat_jobs_running") + metric(s, "ivchat_jobs_waiting") == len(threads)), "asked: " + name)
    time.sleep(6)  # the stream that waits has begun to tell so
    code = s.stop()
    for thread in threads:
        thread.join()
    tap.ok(code == 143, "ends after its time", (code, s.log))
    for name, r in told.items():
        last = getattr(r, "error", {}) if "stream" not in name else (getattr(r, "events", []) or [{}])[-2:-1]
        error = last[0].get("error", {}) if isinstance(last, list) and last else last
        tap.ok(error and error.get("code") in ("stopped", "stopping") and r.status == (200 if "stream" in name else 503) and
               ("stream" not in name or r.events[-1] == "[DONE]"), "who is still there is told: " + name, r)

# ---- while it loads
with Server("--parallel", "1", wait=False, model=model) as s:
    codes = set()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        r = s.get("/health")
        codes.add(r.status)
        if r.status == 200:
            break
    tap.ok(codes <= {200, 503} and 200 in codes, "503 while loading, then 200", codes)
tap.done()

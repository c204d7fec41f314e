#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Load on a server: many clients, each answer checked, clients that leave and wrong bodies in between.

  tests/serve/soak_serve.py [-m MODEL] [--clients 200] [--minutes 10] [--parallel N]

Prints requests, p50 and p99 of the good ones, resident memory after warm-up and at the end; exit status 1 for a wrong answer, a
500, or memory that grew by more than 10 % and 64 MiB. Also how long 1, 2, 4, 8 chats at once take beside one after the other.
"""
import argparse
import json
import os
import random
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "apps"))
import program  # noqa: E402
from serverrig import VIDEO, Server, read  # noqa: E402


def resident(server):
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith("process_resident_memory_bytes "):
            return int(line.split()[1])
    return 0


class Load:
    def __init__(self, server, ident):
        self.server, self.part = server, {"type": "video", "id": ident}
        self.times, self.wrong, self.count = [], [], {}
        self.lock = threading.Lock()
        self.asks = []
        for i in range(12):
            content = [self.part, "Question %d?" % i] if i % 2 else ["Text %d" % i]
            self.asks.append((content, {"seed": i, "temperature": (i % 3) / 2, "stream": i % 4 == 1}))
        self.right = [server.chat(*c, **o).content for c, o in self.asks]

    def good(self, rng):
        i = rng.randrange(len(self.asks))
        content, options = self.asks[i]
        start = time.monotonic()
        r = self.server.chat(*content, **options)
        if r.status in (429, 503):
            time.sleep(float(r.headers.get("retry-after", 1)) * rng.random())
            return "busy"
        if r.status != 200 or r.content != self.right[i]:
            self.wrong.append("%s: %s" % (i, r))
            return "wrong"
        with self.lock:
            self.times.append(time.monotonic() - start)
        return "good"

    def leaver(self, rng):
        body = json.dumps({"messages": [{"role": "user", "content": "x"}], "max_tokens": 5000, "ignore_eos": True,
                           "stream": rng.random() < 0.5}).encode()
        s = socket.create_connection((self.server.host, self.server.port), 30)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) +
                  body[:rng.randrange(len(body) + 1)] + (b"" if rng.random() < 0.5 else b"\0"))
        time.sleep(rng.random() * 0.3)
        s.close()
        return "left"

    def broken(self, rng):
        text = bytearray(json.dumps({"messages": [{"role": "user", "content": [self.part]}], "n": 2}).encode())
        for _ in range(3):
            text[rng.randrange(len(text))] = rng.randrange(256)
        r = self.server.post("/v1/chat/completions", bytes(text))
        if r.status >= 500 and r.status != 503:
            self.wrong.append(str(r))
        return "broken"

    def client(self, n, end):
        rng = random.Random(n)
        while time.monotonic() < end:
            try:
                what = rng.choices((self.good, self.leaver, self.broken), (8, 1, 1))[0](rng)
            except OSError as error:
                what = type(error).__name__
            with self.lock:
                self.count[what] = self.count.get(what, 0) + 1


def together(calls):
    threads = [threading.Thread(target=c) for c in calls]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return time.monotonic() - start


def throughput(model, ways):
    for n in ways:
        with Server("--parallel", str(n), model=model, dtype="bf16") as s:
            part = {"type": "video", "id": s.post("/v1/videos", read(VIDEO)).json["id"]}

            def call(i, s=s, part=part):
                s.chat(part, "Question %d?" % i, max_tokens=64, ignore_eos=True)
            for i in range(n):
                call(i)
            one = sum(together([lambda i=i: call(i)]) for i in range(n))
            print("%d chats: one after the other %.2f s, at once %.2f s" %
                  (n, one, together([lambda i=i: call(i) for i in range(n)])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("-m", "--model", default=program.model())
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--parallel", default="2")
    o = parser.parse_args()
    throughput(o.model, (1, 2, 4, 8))
    with Server("--parallel", o.parallel, "--queue", "1000", "--metrics", model=o.model) as s:
        load = Load(s, s.post("/v1/videos", read(VIDEO)).json["id"])
        warm = max(5.0, o.minutes * 60 / 5)
        together([lambda n=n: load.client(n, time.monotonic() + warm) for n in range(o.clients)])
        before = resident(s)
        together([lambda n=n: load.client(1000 + n, time.monotonic() + o.minutes * 60) for n in range(o.clients)])
        after = resident(s)
        failed = [x for x in s.get("/metrics").body.decode().splitlines() if 'status="500"' in x]
        times = sorted(load.times) or [0.0]
        print("requests:", dict(sorted(load.count.items())))
        print("p50 %.3f s, p99 %.3f s" % (times[len(times) // 2], times[len(times) * 99 // 100]))
        print("resident: %d MiB after warm-up, %d MiB at the end" % (before >> 20, after >> 20))
        for line in load.wrong[:5] + failed:
            print("WRONG", line)
        grew = after > before * 1.1 and after - before > 64 << 20
        code = s.stop()
    bad = bool(load.wrong or failed or grew or code != 143 or not load.times)
    print("soak: %s" % ("FAILED" if bad else "passed"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

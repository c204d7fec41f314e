#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Load on a server: many clients, each answer checked, clients that leave and wrong bodies in between.

  tests/serve/soak_serve.py [-m MODEL] [--clients 200] [--minutes 10] [--parallel N]
  tests/serve/soak_serve.py --attach PORT --minutes 2 [--times FILE]    one that runs already, on this machine, with --metrics

Prints requests, p50 and p99 of the good ones (and of those of earlier pieces in FILE), a curve of resident memory and the
connections that are left; exit status 1 for a wrong or missing answer, a 500, or memory that grew by more than 10 % and 64 MiB after
warm-up (with --attach the first piece is that). Without --attach also how long 1, 2, 4, 8 chats at once take beside one after the
other.
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
from serverrig import VIDEO, Server, data_url, read, video  # noqa: E402


def metric(server, name):
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    return 0.0


def resident(server):
    return int(metric(server, "process_resident_memory_bytes"))


class Attached(Server):
    """A server that somebody else started."""

    def __init__(self, port):  # pylint: disable=super-init-not-called
        self.host, self.port, self.tls, self.process = "127.0.0.1", port, False, None

    def stop(self, number=None):
        return 143


class Load:
    def __init__(self, server):
        self.server = server
        self.part = {"type": "video", "id": server.post("/v1/videos", read(VIDEO)).json["id"]}
        self.times, self.wrong, self.count, self.curve = [], [], {}, []
        self.lock = threading.Lock()
        self.url = video(data_url())
        self.asks = []
        for i in range(12):
            content = [self.part, "Question %d?" % i] if i % 2 else ["Text %d" % i]
            self.asks.append((content, {"seed": i, "temperature": (i % 3) / 2, "stream": i % 4 == 1}))
        for i in range(4):  # bytes with the question, other frames; an earlier turn
            self.asks.append(([self.url, "What happens?"], {"media_io_kwargs": {"video": {"num_frames": 1 + 2 * i}}}))
            self.asks.append((["And then?"], {"turns": [("Text %d" % i, "A circle.")], "stream": i % 2 == 0}))
        self.right = [server.chat(*c, **o).content for c, o in self.asks]

    def bad(self, what):
        with self.lock:
            self.wrong.append(str(what)[:2000])
        return "wrong"

    def good(self, rng):
        i = rng.randrange(len(self.asks))
        content, options = self.asks[i]
        start = time.monotonic()
        try:
            r = self.server.chat(*content, **options)
            if r.status in (429, 503):
                time.sleep(float(r.headers.get("retry-after", 1)) * rng.random())
                return "busy"
            if r.status != 200 or r.content != self.right[i]:
                return self.bad("%s: %s" % (i, r))
        except Exception as error:  # pylint: disable=broad-exception-caught # no answer is a wrong one
            return self.bad("%s: %r after %.1f s" % (i, error, time.monotonic() - start))
        with self.lock:
            self.times.append(time.monotonic() - start)
        return "good"

    def leaver(self, rng):
        body = json.dumps({"messages": [{"role": "user", "content": [self.url, {"type": "text", "text": "x"}] if
                                         rng.random() < 0.3 else "x"}], "max_tokens": 5000, "ignore_eos": True,
                           "media_io_kwargs": {"video": {"num_frames": rng.randrange(1, 9)}},
                           "stream": rng.random() < 0.5}).encode()
        s = socket.create_connection((self.server.host, self.server.port), 30)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) +
                  (body if rng.random() < 0.6 else body[:rng.randrange(len(body))]))
        time.sleep(rng.random() * 0.3)
        s.close()
        return "left"

    def broken(self, rng):
        text = bytearray(json.dumps({"messages": [{"role": "user", "content": [self.part]}], "n": 2}).encode())
        for _ in range(3):
            text[rng.randrange(len(text))] = rng.randrange(256)
        r = self.server.post("/v1/chat/completions", bytes(text))
        if r.status >= 500 and r.status != 503:
            self.bad(r)
        return "broken"

    def upload(self, rng):
        """Stored, asked about, looked at, removed."""
        ident = self.server.post("/v1/videos", read(VIDEO) + b"\0" * rng.randrange(100)).json["id"]
        r = self.server.get("/v1/videos/%s/frames?num_frames=%d" % (ident, rng.randrange(1, 9)))
        gone = self.server.request("DELETE", "/v1/videos/" + ident)
        if gone.status != 200 or r.status not in (200, 429, 503):
            return self.bad("upload: %s, %s" % (r, gone))
        return "upload"

    def client(self, n, end):
        rng = random.Random(n)
        while time.monotonic() < end:
            try:
                what = rng.choices((self.good, self.leaver, self.broken, self.upload), (16, 2, 2, 1))[0](rng)
            except OSError as error:
                what = type(error).__name__
            with self.lock:
                self.count[what] = self.count.get(what, 0) + 1

    def watch(self, end, step):
        start = time.monotonic()
        while time.monotonic() < end:
            try:
                self.curve.append((time.monotonic() - start, resident(self.server) >> 20,
                                   int(metric(self.server, "ivchat_connections"))))
            except OSError:
                pass
            time.sleep(step)

    def run(self, clients, seconds, seed):
        end = time.monotonic() + seconds
        together([lambda n=n: self.client(seed + n, end) for n in range(clients)] +
                 [lambda: self.watch(end, max(2.0, seconds / 20))])


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


def report(load, server, before, o, seconds):
    """Prints the figures; whether something is wrong."""
    end = time.monotonic() + 60  # those who left are noticed, the rest of the queue is worked off
    # the request before may still be on its way out, so one look at a time
    while time.monotonic() < end and (metric(server, "ivchat_jobs_running") + metric(server, "ivchat_jobs_waiting") > 0 or
                                      metric(server, "ivchat_connections") > 1):
        time.sleep(0.5)
    time.sleep(0.5)
    idle = metric(server, "ivchat_connections")
    time.sleep(0.5)
    after = resident(server)
    failed = [x for x in server.get("/metrics").body.decode().splitlines() if 'status="500"' in x]
    times = list(load.times)
    if o.times:
        with open(o.times, "a+", encoding="ascii") as f:
            f.seek(0)
            times += [float(x) for x in f.read().split()]
            f.write("".join("%.4f\n" % t for t in load.times))
    times.sort()
    print("requests:", dict(sorted(load.count.items())))
    print("good ones: %d, %.1f a second" % (len(load.times), len(load.times) / seconds))
    for name, list_of in (("", sorted(load.times)), ("all pieces: ", times)):
        if list_of and (not name or o.times):
            print("%sp50 %.3f s, p99 %.3f s, longest %.3f s (%d)" % (name, list_of[len(list_of) // 2],
                  list_of[len(list_of) * 99 // 100], list_of[-1], len(list_of)))
    print("resident, MiB:", " ".join("%d:%d" % (t, mib) for t, mib, _ in load.curve))
    print("resident: %d MiB before, %d MiB afterwards; %d connections left" % (before >> 20, after >> 20, idle - 1))
    for line in load.wrong[:5] + failed:
        print("WRONG", line)
    grew = after > before * 1.1 and after - before > 64 << 20
    return bool(load.wrong or failed or grew or idle > 1 or not load.times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("-m", "--model", default=program.model())
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--parallel", default="2")
    parser.add_argument("--attach", type=int, metavar="PORT")
    parser.add_argument("--times", metavar="FILE", help="keeps the times of good answers for the next piece")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    if not o.attach:
        throughput(o.model, (1, 2, 4, 8))
    with Attached(o.attach) if o.attach else Server("--parallel", o.parallel, "--queue", "1000", "--metrics",
                                                    model=o.model) as s:
        load = Load(s)
        if not o.attach:
            load.run(o.clients, max(20.0, o.minutes * 60 / 5), 0)
            load.times.clear()
            load.count.clear()
            load.curve.clear()
        before = resident(s)
        load.run(o.clients, o.minutes * 60, 1000 * o.seed)
        bad = report(load, s, before, o, o.minutes * 60)
        bad = s.stop() != 143 or bad
    print("soak: %s" % ("FAILED" if bad else "passed"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures chats over one video through `ivchat serve`: one after another, and 1, 2, 4, 8 at once.

    tools/bench_chats.py IVCHAT MODEL VIDEO [--tokens 32] [--parallel 8] [--pace] [-- SERVE-OPTION...]

VIDEO - = none. Prints tokens per second of each round (the prompt's new part included) and whether every answer equals the one that it
had alone. --pace: also the longest wait between two tokens of an answer while other prompts and another video are
taken in.
"""
import argparse
import http.client
import json
import re
import subprocess
import sys
import threading
import time

QUESTIONS = ["What is she doing?", "What colour is the mat?", "Where does this take place?", "How does it begin?",
             "How does it end?", "What is she wearing?", "Is there anybody else?", "Describe the room in detail."]


class Server:
    def __init__(self, ivchat, model, parallel, options):
        self.process = subprocess.Popen([ivchat, "serve", "-m", model, "--port", "0", "--parallel", str(parallel),
                                         "--queue", "64", *options], stderr=subprocess.PIPE, text=True)
        while True:
            line = self.process.stderr.readline()
            if not line:
                sys.exit("the server did not start")
            found = re.search(r"http://[^:]+:(\d+)", line)
            if found:
                break
        self.port = int(found.group(1))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        while self.get("/health") != 200:
            time.sleep(0.1)

    def get(self, path):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        c.request("GET", path)
        return c.getresponse().status

    def post(self, path, body):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1200)
        c.request("POST", path, body)
        r = c.getresponse()
        data = json.loads(r.read())
        if r.status != 200:
            sys.exit("%s: %s" % (r.status, data))
        return data

    def body(self, video, question, n, **more):
        content = [{"type": "video", "id": video}] if video else []
        content.append({"type": "text", "text": question})
        return json.dumps({"messages": [{"role": "user", "content": content}], "max_tokens": n, "ignore_eos": True,
                           "temperature": 0, **more})

    def chat(self, video, question, n):
        r = self.post("/v1/chat/completions", self.body(video, question, n))
        return tuple(r["choices"][0]["token_ids"])

    def stream(self, video, question, n, times):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1200)
        c.request("POST", "/v1/chat/completions", self.body(video, question, n, stream=True, logprobs=True))
        for line in c.getresponse():
            if line.startswith(b"data: {"):
                times.append(time.monotonic())


def at_once(s, video, questions, n):
    answers = [None] * len(questions)

    def one(i):
        answers[i] = s.chat(video, questions[i], n)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(questions))]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers, time.monotonic() - start


def pace(s, video, data, n):
    times = []
    t = threading.Thread(target=s.stream, args=(video, "Tell a long story about it.", n, times))
    t.start()
    while len(times) < 4:
        time.sleep(0.01)
    quiet = len(times)
    time.sleep(4 * (times[-1] - times[-2]))
    before = [b - a for a, b in zip(times[1:], times[2:])]
    began = time.monotonic()
    other = s.post("/v1/videos", data)["id"]
    s.post("/v1/chat/completions", s.body(other, "What is that?", 1, media_io_kwargs={"video": {"num_frames": 4}}))
    ended = time.monotonic()
    t.join()
    gaps = [b - a for a, b in zip(times[quiet:], times[quiet + 1:]) if a < ended and b > began]
    print("pace: %.0f ms between tokens before; while another video and prompt are taken in for %.1f s: %d tokens, "
          "longest wait %.0f ms" % (1e3 * sorted(before)[len(before) // 2], ended - began, len(gaps), 1e3 * max(gaps)))


def main():
    p = argparse.ArgumentParser()
    for name in ("ivchat", "model", "video"):
        p.add_argument(name)
    p.add_argument("--tokens", type=int, default=32)
    p.add_argument("--parallel", type=int, default=8)
    p.add_argument("--alone", type=int, default=8)
    p.add_argument("--pace", action="store_true")
    p.add_argument("options", nargs="*")
    o = p.parse_args()
    data = None
    if o.video != "-":
        with open(o.video, "rb") as f:
            data = f.read()
    s = Server(o.ivchat, o.model, o.parallel, o.options)
    try:
        start = time.monotonic()
        video = s.post("/v1/videos", data)["id"] if data else None
        s.chat(video, QUESTIONS[0], 1)
        print("first answer after %.1f s" % (time.monotonic() - start))
        _, seconds = at_once(s, video, QUESTIONS[:o.parallel], 1)
        print("%d prompts at once, one token each: %.1f s" % (o.parallel, seconds), flush=True)
        start = time.monotonic()
        alone = [s.chat(video, q, o.tokens) for q in QUESTIONS[:o.alone]]
        base = o.alone * o.tokens / (time.monotonic() - start)
        print("one after another: %.2f tokens/s" % base, flush=True)
        for n in (1, 2, 4, 8):
            if n > o.parallel:
                break
            answers, seconds = at_once(s, video, QUESTIONS[:n], o.tokens)
            same = sum(a == b for a, b in zip(answers, alone))
            rate = n * o.tokens / seconds
            print("%d at once: %.2f tokens/s, %.2f x; %d of %d answers as alone" %
                  (n, rate, rate / base, same, min(n, len(alone))), flush=True)
        if o.pace:
            pace(s, video, data, 4 * o.tokens)
    finally:
        s.process.terminate()
        s.process.wait()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""A real `ivchat serve` on this machine, and requests to it with nothing but the standard library."""
import base64
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import program

MEDIA = os.path.join(program.ROOT, "tests", "fixtures", "media")
VIDEO = os.path.join(MEDIA, "bframes.mp4")


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def error(self):
        error = self.json.get("error") if isinstance(self.json, dict) else None
        return error if isinstance(error, dict) else {}

    @property
    def events(self):
        """The data of each event, "[DONE]" as it is; comments left out."""
        out = []
        for block in self.body.decode().split("\n\n"):
            for line in block.split("\n"):
                if line.startswith("data: "):
                    out.append("[DONE]" if line == "data: [DONE]" else json.loads(line[6:]))
        return out

    @property
    def comments(self):
        return [x[2:] for x in self.body.decode().split("\n") if x.startswith(": ")]

    @property
    def content(self):
        """Text of the first answer, streamed or not."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return "".join(c["delta"].get("content", "") for e in self.events if e != "[DONE]" and "choices" in e
                           for c in e["choices"] if c["index"] == 0)
        return self.json["choices"][0]["message"]["content"]

    def __str__(self):
        return "%s %s\n%s" % (self.status, dict(self.headers), self.body[:1500])


class Server:
    """`with Server(...) as s:`; options as on the command line."""

    running = []  # for who must end without leaving the blocks of `with`

    def __init__(self, *options, model=None, env=None, stdin=None, wait=True, dtype="f32"):
        command = [program.IVCHAT, "serve", "-m", model or program.TINY, "--port", "0", "--dtype", dtype, *options]
        self.log = ""
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, env=program.environment(env))
        Server.running.append(self)
        if stdin:
            self.process.stdin.write(stdin.encode())
        self.process.stdin.close()
        self.host, self.port, self.tls, self.before = "127.0.0.1", 0, False, 0
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.seen = threading.Condition()
        self.reader.start()
        self.wait_for("ready:" if wait else "listening:")
        found = re.search(r"listening: (https?)://(\[[^\]\s]+\]|[^:\s]+):(\d+)", self.log)
        if found:
            self.tls, self.host, self.port = found.group(1) == "https", found.group(2).strip("[]"), int(found.group(3))

    def read(self):
        for line in self.process.stderr:
            with self.seen:
                self.log += line.decode("utf-8", "replace")
                self.seen.notify_all()
        with self.seen:
            self.seen.notify_all()

    def wait_for(self, text, seconds=60):
        end = time.monotonic() + seconds
        with self.seen:
            while text not in self.log and time.monotonic() < end and self.process.poll() is None:
                self.seen.wait(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, number=signal.SIGTERM):
        """Ends it and returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "killed"
        return self.process.returncode

    def connect(self, timeout=120):
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=120):
        connection = self.connect(timeout)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        connection.close()
        return reply

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def chat(self, *content, turns=(), headers=None, **options):
        """A chat of earlier (question, answer) turns and then content: texts and parts."""
        messages = []
        for question, answer in turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        parts = [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]
        if turns and isinstance(turns[0][0], list):
            parts = [p for p in parts if p["type"] == "text"]
        messages.append({"role": "user", "content": parts})
        return self.post("/v1/chat/completions", {"messages": messages, "max_tokens": 6, **options}, headers=headers)

    def status(self, name):
        """Bytes of a line of /proc's status, such as VmRSS."""
        with open("/proc/%d/status" % self.process.pid, encoding="ascii") as f:
            return 1024 * int(re.search(r"%s:\s*(\d+)" % name, f.read()).group(1))

    def reset_peak(self):
        with open("/proc/%d/clear_refs" % self.process.pid, "w", encoding="ascii") as f:
            f.write("5")
        self.before = self.status("VmRSS")

    def peak(self):
        """The most memory since reset_peak, beyond what was held then."""
        return self.status("VmHWM") - self.before

    def raw(self, data, timeout=10, wait=True):
        """Sends bytes, returns what comes until the other side closes."""
        s = socket.create_connection((self.host, self.port), timeout)
        out = b""
        try:
            s.sendall(data)
            while wait:
                piece = s.recv(65536)
                if not piece:
                    break
                out += piece
        except OSError:
            pass
        s.close()
        return out


def read(path):
    with open(path, "rb") as f:
        return f.read()


def data_url(path=VIDEO, kind="video/mp4"):
    return "data:%s;base64,%s" % (kind, base64.b64encode(read(path)).decode())


def video(url, **more):
    return {"type": "video_url", "video_url": {"url": url}, **more}


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}

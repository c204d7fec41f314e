#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What docs/SERVER.md says about running the server for others, run for real: nginx in front of it, the systemd unit, the
packages of the container."""
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time

import program
from program import Tap
from serverrig import VIDEO, Server, read

tap = Tap()
model = program.TINY
os.environ["PATH"] += ":/usr/sbin:/sbin"
with open(os.path.join(program.ROOT, "docs", "SERVER.md"), encoding="utf-8") as f:
    DOC = f.read()


def block(kind):
    return re.search("```%s\n(.*?)```" % kind, DOC, re.S).group(1)


# ---- the first answers, word for word
PYTHON = os.environ.get("IVCHAT_CLIENTS_PYTHON", sys.executable)
clip = os.path.join(program.path("docs"), "clip.mp4")
os.makedirs(os.path.dirname(clip))
shutil.copy(VIDEO, clip)
with Server() as s:
    def said(command):
        done = subprocess.run(command, capture_output=True, check=False, cwd=os.path.dirname(clip), timeout=60)
        return done.stdout.decode() if done.returncode == 0 else done.stderr.decode()

    def here(text):
        return re.sub(r"#.*", "", text).replace("127.0.0.1:8080", "127.0.0.1:%d" % s.port)
    if shutil.which("curl"):
        upload, chat = here(block("sh")).split("\n", 1)
        ident = json.loads(said(["sh", "-c", upload]))["id"]
        answer = said(["sh", "-c", chat.replace("video-...", ident)])
        tap.ok(json.loads(answer)["choices"][0]["message"]["content"], "curl, as in the docs", answer)
    else:
        tap.skip("curl, as in the docs", "curl is not installed")
    if subprocess.run([PYTHON, "-c", "import openai"], capture_output=True, check=False).returncode == 0:
        answer = said([PYTHON, "-c", here(block("python"))])
        tap.ok(answer and "Error" not in answer, "the openai client, as in the docs", answer)
    else:
        tap.skip("the openai client, as in the docs", "the openai module is not installed (pip install openai)")

# ---- systemd
if not shutil.which("systemd-analyze"):
    tap.skip("systemd", "systemd-analyze is not installed")
else:
    unit = program.path("ivchat.service")
    with open(unit, "w", encoding="utf-8") as f:
        f.write(block("ini").replace("/usr/local/bin/ivchat", program.IVCHAT))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, check=False)
    words = [x for x in (done.stdout + done.stderr).decode().splitlines() if "ivchat" in x]
    tap.ok(done.returncode == 0 and not words, "systemd-analyze verify", words)

# ---- the container: what the program needs comes with the packages named
if not shutil.which("dpkg-query") or "bookworm" not in (read("/etc/os-release") if os.path.exists("/etc/os-release")
                                                       else b"").decode():
    tap.skip("container", "this is not the distribution of the container")
else:
    named = re.search(r"bookworm-slim\nRUN (.*?)&& rm", block("dockerfile"), re.S).group(1).replace("\\", " ").split()
    named = [x for x in named if x.startswith("lib")]
    libraries = [x.split()[0] for x in subprocess.run(["objdump", "-p", program.IVCHAT], capture_output=True, check=False)
                 .stdout.decode().replace("NEEDED", "").splitlines() if x.strip().endswith(tuple("0123456789")) and ".so" in x]
    base = ("libc.so", "libm.so", "ld-linux", "libgcc_s", "libstdc++", "libtinfo", "libz.so", "libasan", "libubsan", "libtsan")
    owners = {}
    for lib in libraries:
        if not lib.startswith(base):
            told = subprocess.run(["dpkg-query", "-S", "*/" + lib], capture_output=True, check=False).stdout.decode()
            owners[lib] = {x.split(":")[0] for x in told.splitlines()}
    tap.ok(len(owners) > 5 and not [lib for lib, of in owners.items() if of and not of & set(named)],
           "the container has every library", (owners, named))

# ---- nginx
if not shutil.which("nginx") or not shutil.which("openssl"):
    tap.skip("nginx", "%s is not installed" % ("openssl" if shutil.which("nginx") else "nginx"))
    tap.done()

KEY = {"Authorization": "Bearer front-key"}
pem = program.path("front.pem"), program.path("front.key")
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem[1], "-out", pem[0], "-days", "2",
                "-subj", "/CN=videos.example"], capture_output=True, check=True)
with Server("--api-key", "-", "--metrics", stdin="front-key\n") as s:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    folder = program.path("nginx")
    os.makedirs(folder)
    site = block("nginx").replace("listen 443 ssl", "listen 127.0.0.1:%d ssl" % port).replace("127.0.0.1:8080", "127.0.0.1:%d" % s.port)
    site = re.sub(r"ssl_certificate .*;", "ssl_certificate %s;" % pem[0], site)
    site = re.sub(r"ssl_certificate_key .*;", "ssl_certificate_key %s;" % pem[1], site)
    temp = "".join("%s_temp_path %s/%s;\n" % (n, folder, n) for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(os.path.join(folder, "nginx.conf"), "w", encoding="utf-8") as f:
        f.write("daemon off;\npid %s/pid;\nerror_log %s/error.log;\n%sevents {}\nhttp {\naccess_log off;\n%s%s}\n" %
                (folder, folder, "user root;\n" if os.geteuid() == 0 else "", temp, site))
    front = subprocess.Popen(["nginx", "-p", folder, "-e", os.path.join(folder, "error.log"), "-c",
                              os.path.join(folder, "nginx.conf")], stderr=subprocess.PIPE)

    class Front(Server):
        """nginx, asked like the server itself."""

        def __init__(self):  # pylint: disable=super-init-not-called
            self.host, self.port, self.tls = "127.0.0.1", port, True

    n = Front()
    end = time.monotonic() + 15
    up = None
    while time.monotonic() < end and front.poll() is None and up is None:
        try:
            up = n.get("/health")
        except OSError:
            time.sleep(0.1)
    tap.ok(up is not None and up.status == 200, "nginx is in front", (front.poll(), site))

    def running():
        for line in s.get("/metrics", headers=KEY).body.decode().splitlines():
            if line.startswith("ivchat_jobs_running "):
                return int(line.split()[1])
        return None

    def start(**options):
        """A chat over TLS that has been sent."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        c = context.wrap_socket(socket.create_connection((n.host, n.port), 60))
        body = json.dumps({"messages": [{"role": "user", "content": "Tell me"}], "ignore_eos": True, **options}).encode()
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: videos.example\r\nAuthorization: Bearer front-key\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return c

    try:
        tap.ok(n.chat("Hello?").status == 401, "without a key: 401")
        ident = n.post("/v1/videos", read(VIDEO), headers=KEY).json["id"]
        part = {"type": "video", "id": ident}
        a, b = n.chat(part, "What happens?", headers=KEY), s.chat(part, "What happens?", headers=KEY)
        tap.ok(a.status == 200 and a.json["choices"] == b.json["choices"], "the same answer through nginx", a)
        r = n.chat("Hello?", headers={**KEY, "Host": "videos.example:%d" % port, "Origin": "https://videos.example:%d" % port})
        tap.ok(r.status == 200, "its own page may ask", r)
        r = n.chat("Hello?", headers={**KEY, "Host": "videos.example", "Origin": "https://evil.example"})
        tap.ok(r.status == 403, "another site's may not", r)
        r = n.get("/", headers=KEY)
        tap.ok(r.status == 200 and "default-src 'none'" in r.headers["content-security-policy"], "the page", r)
        # what a stream says arrives while the work goes on
        c = start(stream=True, max_tokens=20000)
        got = b""
        while b'"content":"' not in got.replace(b'"content":""', b""):
            piece = c.recv(4096)
            if not piece:
                break
            got += piece
        tap.ok(b" 200 " in got.split(b"\r\n")[0] and running() == 1, "a stream is not held back", got[:300])
        c.close()
        end = time.monotonic() + 20
        while running() and time.monotonic() < end:
            time.sleep(0.1)
        tap.ok(running() == 0, "who leaves nginx leaves the server")
        r = n.post("/v1/videos", os.urandom(20 << 20), headers=KEY)
        tap.ok(r.status == 200 and r.json["bytes"] == 20 << 20, "an upload of 20 MiB", r)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        c = context.wrap_socket(socket.create_connection((n.host, n.port), 60))
        c.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: videos.example\r\nAuthorization: Bearer front-key\r\n"
                  b"Content-Length: %d\r\n\r\n" % ((256 << 20) + 1))
        got = c.recv(4096)
        c.close()
        tap.ok(b" 413 " in got.split(b"\r\n")[0], "one beyond the server's limit: 413 at once", got[:200])
        r = n.chat(part, "What happens?", stream=True, headers=KEY)
        tap.ok(r.content == a.content and r.events[-1] == "[DONE]", "a stream to its end", r)
    finally:
        front.terminate()
        front.wait()
    tap.ok(s.stop() == 143, "ends well", s.log[-300:])
tap.done()

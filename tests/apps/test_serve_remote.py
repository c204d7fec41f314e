#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The server fetches https media: a real one, in a network of its own where addresses, names, certificates and hosts are ours.

The network namespace holds public and private addresses on its loopback, a resolver that answers as an attacker's
would, and https servers on all of them; each one that must never be asked counts who asks it.
"""
import http.server
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import program
from program import Tap
from serverrig import VIDEO, Server, data_url, read, video

tap = Tap()
INSIDE = "IVCHAT_TEST_INSIDE"
model = program.TINY
missing = [n for n in ("unshare", "ip", "mount", "openssl") if not shutil.which(n, path=os.environ["PATH"] + ":/sbin:/usr/sbin")]
if missing:
    tap.skip("remote media", "%s is not installed" % ", ".join(missing))
    tap.done()
if INSIDE not in os.environ:
    for way in (["unshare", "-nm"], ["unshare", "-rnm"]):
        if subprocess.run(way + ["true"], capture_output=True, check=False).returncode == 0:
            os.environ[INSIDE] = "1"
            program.SCRATCH.cleanup()
            os.execvp(way[0], way + [sys.executable, os.path.abspath(__file__)])
    tap.skip("remote media", "no network namespace for this user")
    tap.done()
os.environ["PATH"] += ":/sbin:/usr/sbin"

PUBLIC, SECOND, SIX = "93.184.216.34", "93.184.216.35", "2606:2800:220:1::1"
HOME = {"media.example": [PUBLIC], "six.example": [SIX], "stranger.example": [PUBLIC], "untrusted.example": [SECOND],
        "private.example": ["127.0.0.1"], "both.example": [PUBLIC, "127.0.0.1"], "mapped.example": ["::ffff:127.0.0.1"],
        "linklocal.example": ["169.254.169.254"], "ten.example": ["10.0.0.1"], "six-private.example": ["fd00::1"],
        "nat64.example": ["64:ff9b::7f00:1"], "both-six.example": [PUBLIC, "::1"]}
ASK = "What happens?"


def sh(*command):
    subprocess.run(command, check=True, capture_output=True)


# ---- the network
sh("ip", "link", "set", "lo", "up")
for address in (PUBLIC + "/32", SECOND + "/32", "169.254.169.254/32", "10.0.0.1/32"):
    sh("ip", "addr", "add", address, "dev", "lo")
have_six = True
try:
    for address in (SIX + "/128", "fd00::1/128"):
        sh("ip", "-6", "addr", "add", address, "dev", "lo")
except subprocess.CalledProcessError:
    have_six = False


def over(path, text):
    """path shows text, in here."""
    own = program.path(path.replace("/", "_"))
    with open(own, "w", encoding="ascii") as f:
        f.write(text)
    sh("mount", "--bind", own, os.path.realpath(path))


def certificate(name, *more):
    files = program.path(name + ".pem"), program.path(name + ".key")
    sh("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" + name, "-out", files[0],
       "-keyout", files[1], *more)
    return files


hosts = list(HOME) + ["rebind.example"]
names = ["DNS:" + h for h in hosts] + ["IP:" + a for a in (PUBLIC, "127.0.0.1", "10.0.0.1", "169.254.169.254", SIX)] + ["DNS:localhost"]
ours = certificate("ours", "-addext", "subjectAltName=" + ",".join(names))
theirs = certificate("theirs", "-addext", "subjectAltName=DNS:untrusted.example")
sh("mount", "--make-rprivate", "/")
over("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
over("/etc/nsswitch.conf", "hosts: files dns\n")
over("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
bundle = next((p for p in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
               if os.path.exists(p)), None)
if not bundle:
    tap.skip("remote media", "no file of certificates that the system trusts")
    tap.done()
over(bundle, read(ours[0]).decode())

# ---- names
asked = []


def addresses(name):
    if name == "rebind.example":  # public when it is looked at, private when it is looked at again
        return [PUBLIC] if asked.count((name, 1)) <= 1 else ["127.0.0.1"]
    return HOME.get(name, [])


def resolver(sock):
    while True:
        query, peer = sock.recvfrom(4096)
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, (kind,) = ".".join(labels).lower(), struct.unpack(">H", query[at + 1:at + 3])
        asked.append((name, kind))
        want = [a for a in addresses(name) if (":" in a) == (kind == 28) and kind in (1, 28)]
        known = name in HOME or name == "rebind.example"
        out = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, len(want), 0, 0) + query[12:at + 5]
        for a in want:
            raw = socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)
            out += struct.pack(">HHHIH", 0xc00c, kind, 1, 0, len(raw)) + raw
        sock.sendto(out, peer)


dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("127.0.0.1", 53))
threading.Thread(target=resolver, args=(dns,), daemon=True).start()

# ---- hosts
hits, trespass = [], []
left = threading.Event()  # somebody went away from an endless body
BODY = read(VIDEO)
REDIRECTS = {
    "/to-good": "https://media.example/ok.mp4", "/to-relative": "/ok.mp4", "/to-relative-host": "//media.example/ok.mp4",
    "/to-loopback": "https://127.0.0.1/ok.mp4", "/to-localhost": "https://localhost/ok.mp4",
    "/to-metadata": "https://169.254.169.254/latest/", "/to-ten": "https://10.0.0.1/ok.mp4",
    "/to-six": "https://[::1]/ok.mp4", "/to-http": "http://media.example/ok.mp4", "/to-stranger": "https://stranger.example/ok.mp4",
    "/to-private-name": "https://private.example/ok.mp4", "/to-file": "file:///etc/passwd", "/to-ftp": "ftp://media.example/x",
    "/to-relative-private": "//127.0.0.1/ok.mp4", "/to-user": "https://media.example@127.0.0.1/ok.mp4",
    "/to-backslash": "https://media.example\\@127.0.0.1/ok.mp4", "/to-port": "https://media.example:8443/ok.mp4",
    "/to-self": "/to-self", "/to-decimal": "https://2130706433/ok.mp4", "/to-nothing": None, "/to-rebind": "https://rebind.example/ok.mp4",
    **{"/hop%d" % i: "/hop%d" % (i - 1) for i in range(1, 9)}, "/hop0": "/ok.mp4"}


class Host(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def endless(self, piece, pause):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(piece)
                time.sleep(pause)
        except OSError:
            left.set()

    def do_GET(self):  # noqa: N802
        here = self.connection.getsockname()[0]
        hits.append((here, self.path, dict(self.headers)))
        if here not in (PUBLIC, SECOND, SIX):
            trespass.append((here, self.path))
        self.close_connection = True
        if self.path in REDIRECTS:
            self.send_response(302)
            if REDIRECTS[self.path]:
                self.send_header("Location", REDIRECTS[self.path])
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"body")
        elif self.path == "/endless":
            self.endless(b"x" * 65536, 0)
        elif self.path == "/drip":
            self.endless(b"x", 0.1)
        elif self.path in ("/long", "/short"):
            self.send_response(200)
            self.send_header("Content-Length", "10000000000" if self.path == "/long" else str(len(BODY) + 10))
            self.end_headers()
            self.wfile.write(BODY)
        elif self.path == "/silent":
            left.wait(30)
        elif self.path.startswith("/ok.mp4"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)
        else:
            text = b"<html>no video</html>"
            self.send_response(404 if self.path == "/404" else 500 if self.path == "/500" else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)


class Host6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


class Quiet:
    def handle_error(self, *_):
        pass


def serve(address, port, files=None):
    kind = Host6 if ":" in address else http.server.ThreadingHTTPServer
    server = type("Server", (Quiet, kind), {"daemon_threads": True})((address, port), Host)
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


for place in (PUBLIC, "127.0.0.1", "10.0.0.1", "169.254.169.254"):
    serve(place, 443, ours)
serve(PUBLIC, 80)
serve("127.0.0.1", 80)
serve(PUBLIC, 8443, ours)
serve(SECOND, 443, theirs)
if have_six:
    serve(SIX, 443, ours)
    serve("::1", 443, ours)
proxy_asked = []


def proxy(sock):
    while True:
        c, _ = sock.accept()
        proxy_asked.append(1)
        c.close()


trap = socket.create_server(("127.0.0.1", 3128))
threading.Thread(target=proxy, args=(trap,), daemon=True).start()

ALLOWED = [h for h in hosts + [PUBLIC, "localhost", "127.0.0.1", "10.0.0.1", "169.254.169.254", "gone.example"]
           if h != "stranger.example"]
PROXY = {"https_proxy": "http://127.0.0.1:3128", "HTTPS_PROXY": "http://127.0.0.1:3128", "ALL_PROXY": "http://127.0.0.1:3128"}


def told(r):
    """Whether the message gives anything away."""
    return any(x in r.error.get("message", "") for x in ("127.", "93.184", "169.254", "::1", "example", "root:", "curl", "SSL"))


with Server("--allow-remote-media", ",".join(ALLOWED), "--max-body", "200000", "--metrics", env=PROXY) as s:
    right = s.chat(video(data_url()), ASK)
    tap.ok(right.status == 200, "the bytes themselves", right)
    for url in ("https://media.example/ok.mp4", "https://MEDIA.example/ok.mp4?a=b#c", "https://%s/ok.mp4" % PUBLIC,
                "https://media.example/to-good", "https://media.example/to-relative",
                "https://media.example/to-relative-host", "https://media.example/hop4"):
        r = s.chat(video(url), ASK)
        tap.ok(r.status == 200 and r.json["choices"] == right.json["choices"] and r.json["video"]["path"] is None,
               "fetched: " + url, r)
    if have_six:
        tap.ok(s.chat(video("https://six.example/ok.mp4"), ASK).status == 200, "fetched over IPv6")
    else:
        tap.skip("fetched over IPv6", "no IPv6 here")
    sent = {k.lower() for _, _, h in hits for k in h}
    tap.ok(sent <= {"host", "user-agent", "accept"} and not proxy_asked,
           "no cookie, referrer or key is sent, no proxy is asked", (sent, proxy_asked))

    # ---- names that lead to private addresses
    for host in ("private.example", "both.example", "mapped.example", "linklocal.example", "ten.example", "six-private.example",
                 "nat64.example", "both-six.example", "localhost", "127.0.0.1", "10.0.0.1", "169.254.169.254"):
        r = s.chat(video("https://%s/ok.mp4" % host), ASK)
        tap.ok(r.status == 400 and r.error["code"] == "remote_media_not_allowed" and not told(r), "refused: " + host, r)
    for url in ("https://stranger.example/ok.mp4", "https://media.example:8443/ok.mp4", "http://media.example/ok.mp4"):
        r = s.chat(video(url), ASK)
        tap.ok(r.status == 400 and not told(r), "refused: " + url, r)
    before = asked.count(("gone.example", 1))
    r = s.chat(video("https://gone.example/ok.mp4"), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "media_not_reachable" and asked.count(("gone.example", 1)) > before,
           "a name that nobody knows", r)

    # ---- a name that changes its mind
    n = asked.count(("rebind.example", 1))
    r = s.chat(video("https://rebind.example/ok.mp4"), ASK)
    tap.ok(n == 0 and r.status == 200 and asked.count(("rebind.example", 1)) == 1,
           "resolved once, fetched from there", (r, asked.count(("rebind.example", 1))))
    r = s.chat(video("https://rebind.example/ok.mp4"), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "remote_media_not_allowed", "private the next time: refused", r)
    r = s.chat(video("https://media.example/to-rebind"), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "remote_media_not_allowed", "also behind a redirect", r)

    # ---- redirects
    for path in [p for p in REDIRECTS if p.startswith("/to-") and p not in ("/to-good", "/to-relative", "/to-relative-host",
                                                                         "/to-rebind")] + ["/hop6", "/hop8"]:
        r = s.chat(video("https://media.example" + path), ASK)
        tap.ok(r.status == 400 and r.error["code"] in ("remote_media_not_allowed", "media_not_reachable") and not told(r),
               "a redirect refused: %s -> %s" % (path, REDIRECTS[path]), r)
    tap.ok(trespass == [], "nobody ever asked a private address", trespass)
    tap.ok(not any(here == PUBLIC and p == "/ok.mp4" and "host" in {k.lower() for k in h} and
                   {k.lower(): v for k, v in h.items()}["host"].startswith("stranger") for here, p, h in hits),
           "nor a host that is not on the list")

    # ---- bodies
    r = s.chat(video("https://media.example/endless"), ASK)
    tap.ok(r.status == 413 and r.error["code"] == "media_too_large" and left.wait(10), "a body without end: 413, and left", r)
    r = s.chat(video("https://media.example/long"), ASK)
    tap.ok(r.status in (400, 413), "a body that says it has 10 GB", r)
    r = s.chat(video("https://media.example/short"), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "media_not_reachable", "a body that is shorter than it said", r)
    r = s.chat(video("https://media.example/page.html"), ASK)
    tap.ok(r.status == 415 and r.error["code"] == "not_a_video" and not told(r), "a page instead of a video: 415", r)
    for path in ("/404", "/500"):
        r = s.chat(video("https://media.example" + path), ASK)
        tap.ok(r.status == 400 and r.error["code"] == "media_not_reachable", "the host says " + path[1:], r)
    r = s.chat(video("https://untrusted.example/ok.mp4"), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "media_not_reachable" and not told(r) and
           not any(here == SECOND for here, _, _ in hits), "a certificate that nobody vouches for", r)

    # ---- a client that leaves ends the download
    left.clear()
    text = b'{"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://media.example/drip"}}]}]}'
    c = socket.create_connection((s.host, s.port))
    c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
    end = time.monotonic() + 10
    while not any(p == "/drip" for _, p, _ in hits) and time.monotonic() < end:
        time.sleep(0.02)
    c.close()
    tap.ok(left.wait(10), "a client that leaves ends its download")
    tap.ok('status="500"' not in s.get("/metrics").body.decode() and s.stop() == 143, "no 500", s.log[-500:])

# ---- slow hosts: --timeout counts for all hops together
with Server("--allow-remote-media", "media.example", "--timeout", "2") as s:
    for path in ("/drip", "/silent"):
        start = time.monotonic()
        r = s.chat(video("https://media.example" + path), ASK)
        took = time.monotonic() - start
        tap.ok(r.status == 400 and r.error["code"] == "media_not_reachable" and took < 6, "a slow host: " + path, (r, took))
        left.set()
tap.done()

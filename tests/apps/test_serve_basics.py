#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat serve`: options, paths, keys, heads and bodies of requests, slow clients, the end."""
import os
import re
import socket
import ssl
import subprocess
import time

import program
from program import Tap, run
from serverrig import Server

tap = Tap()
model = program.TINY

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
with Server("--metrics", "--max-body", "20000", "-v") as s:
    tap.ok(s.log.startswith("listening: http://127.0.0.1:") and "ready: http://127.0.0.1:" in s.log,
           "listens on loopback and says where", s.log)
    r = s.get("/health")
    tap.ok(r.status == 200 and r.json == {"status": "ok"}, "GET /health", r)
    r = s.get("/v1/models")
    tap.ok(r.status == 200 and r.json["object"] == "list" and len(r.json["data"]) == 1 and
           r.json["data"][0]["id"] == os.path.basename(model) and r.json["data"][0]["object"] == "model" and
           isinstance(r.json["data"][0]["created"], int) and r.json["data"][0]["owned_by"], "GET /v1/models", r)
    name = r.json["data"][0]["id"]
    tap.ok(s.get("/v1/models/" + name).json["id"] == name and s.get("/v1/models/other").status == 404,
           "GET /v1/models/NAME")
    r = s.get("/")
    csp = r.headers.get("content-security-policy", "")
    tap.ok(r.status == 200 and r.headers["content-type"].startswith("text/html") and "default-src 'none'" in csp and
           "unsafe" not in csp and "frame-ancestors 'none'" in csp and "@NONCE@" not in r.body.decode(),
           "GET / is a page under a strict policy", r)
    nonces = {s.get("/").headers["content-security-policy"] for _ in range(3)}
    tap.ok(len(nonces) == 3, "each page has a nonce of its own", nonces)
    for path in ("/health", "/v1/models", "/nothing", "/openapi.json"):
        r = s.get(path)
        tap.ok("default-src 'none'" in r.headers["content-security-policy"] and
               r.headers["x-content-type-options"] == "nosniff", "policy of " + path, r)

    # ---- errors in OpenAI's shape
    r = s.get("/nothing")
    tap.ok(r.status == 404 and sorted(r.error) == ["code", "message", "param", "type"] and
           r.error["code"] == "not_found", "404 in OpenAI's shape", r)
    r = s.get("/v1/chat/completions")
    tap.ok(r.status == 405 and r.headers["allow"] == "POST" and r.error["code"] == "method_not_allowed", "405", r)
    r = s.request("DELETE", "/v1/videos")
    tap.ok(r.status == 405 and r.headers["allow"] == "POST, GET, HEAD", "405 names every method", r)
    r = s.request("HEAD", "/health")
    tap.ok(r.status == 200 and r.body == b"", "HEAD", r)
    for body, code in (("", "invalid_json"), ("{", "invalid_json"), ("[]", "invalid_type"), ("\xff", "invalid_json"),
                       ('{"messages":[],"messages":[]}', "invalid_json"), ('{"a":"\\ud800"}', "invalid_json"),
                       ('{"messages":NaN}', "invalid_json"), ('{"seed":1e999}', "invalid_json"),
                       ("[" * 5000, "invalid_json"), ('{"a":"x\\u0000y"}', "invalid_json"),
                       ("{}", "missing_required_parameter")):
        r = s.post("/v1/chat/completions", body.encode("latin-1"))
        tap.ok(r.status == 400 and r.error.get("code") == code and r.error["type"] == "invalid_request_error",
               "400 %s for %s" % (code, body[:30].encode()), r)
        if code == "invalid_json":
            tap.ok(re.search(r"is not JSON: .+( \(line 1, column -?\d+\)| levels)$", r.error["message"]) and
                   " near " not in r.error["message"] and "JSON_" not in r.error["message"], "and says why, in whole words", r)
    r = s.post("/v1/chat/completions", HELLO)
    tap.ok(r.status == 200 and r.json["choices"][0]["finish_reason"] in ("stop", "length"), "a text-only chat", r)
    r = s.post("/v1/chat/completions", dict(HELLO, model="anything"))
    tap.ok(r.status == 200 and r.json["model"] == name, "the reply names the model that answered", r)

    # ---- sizes and broken heads
    r = s.post("/v1/chat/completions", dict(HELLO, user="x" * 30000))
    tap.ok(r.status == 413 and r.error["code"] == "body_too_large", "413 by Content-Length", r)
    chunk = b"%x\r\n%s\r\n" % (5000, b"x" * 5000)
    answer = s.raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
                   b"\r\n" + chunk * 6 + b"0\r\n\r\n")
    tap.ok(b" 413 " in answer.split(b"\r\n")[0], "413 for a chunked body", answer[:300])
    answer = s.raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
                   b"\r\n" + chunk * 20 + b"0\r\n\r\n")
    tap.ok(b" 200 " not in answer, "a chunked body without end is cut", answer[:300])
    answer = s.raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"
                   b"\r\n0\r\n\r\n")
    tap.ok(b" 400 " in answer.split(b"\r\n")[0], "both lengths: 400", answer[:300])
    answer = s.raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef")
    tap.ok(b" 400 " in answer.split(b"\r\n")[0], "two Content-Lengths: 400", answer[:300])
    answer = s.raw(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    tap.ok(b" 400 " in answer.split(b"\r\n")[0], "two Hosts: 400", answer[:300])
    answer = s.raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
                   b"2\r\n{}\r\n0\r\n\r\n")
    tap.ok(b" 400 " in answer.split(b"\r\n")[0], "a transfer coding that nobody knows: 400", answer[:300])
    answer = s.raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nabcdef")
    tap.ok(b" 200 " not in answer, "negative Content-Length", answer[:300])
    answer = s.raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")
    tap.ok(b" 200 " not in answer, "a bad chunk size", answer[:300])
    answer = s.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: %s\r\n" % (b"y" * 1000) * 100 + b"\r\n")
    tap.ok(b" 200 " not in answer.split(b"\r\n")[0], "a head without measure", answer[:100])
    answer = s.raw(b"GET /%00health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    tap.ok(b" 200 " not in answer.split(b"\r\n")[0] or b"ivchat" in answer, "an escaped NUL in the path", answer[:300])
    tap.ok(s.get("/health").status == 200, "still there")

    # ---- who asks
    r = s.get("/v1/models", headers={"Host": "evil.example:%d" % s.port})
    tap.ok(r.status == 403 and r.error["code"] == "forbidden_host", "a stranger's name for this machine: 403", r)
    for host in ("localhost", "127.0.0.1:1", "[::1]:80"):
        tap.ok(s.get("/v1/models", headers={"Host": host}).status == 200, "Host: " + host)
    r = s.post("/v1/chat/completions", HELLO, headers={"Origin": "https://evil.example"})
    tap.ok(r.status == 403 and r.error["code"] == "forbidden_origin", "another site's page: 403", r)
    r = s.post("/v1/chat/completions", HELLO, headers={"Origin": "null"})
    tap.ok(r.status == 403, "Origin null: 403", r)
    r = s.get("/v1/models", headers={"Origin": "http://127.0.0.1:%d" % s.port})
    tap.ok(r.status == 200 and "access-control-allow-origin" not in r.headers, "our own page", r)
    r = s.request("OPTIONS", "/v1/models", headers={"Origin": "https://evil.example",
                                                    "Access-Control-Request-Method": "GET"})
    tap.ok(r.status == 403, "preflight of another site: 403", r)

    # ---- keep-alive
    c = s.connect()
    codes = []
    for path in ("/health", "/nothing", "/v1/models"):
        c.request("GET", path)
        answer = c.getresponse()
        answer.read()
        codes.append(answer.status)
    sock = c.sock
    tap.ok(codes == [200, 404, 200] and sock is not None, "three requests over one connection", codes)
    c.close()

    # ---- metrics
    text = s.get("/metrics").body.decode()
    tap.ok('ivchat_requests_total{path="/v1/chat/completions",status="200"} 2' in text and
           "ivchat_generated_tokens_total" in text and 'ivchat_request_seconds_bucket{le="+Inf"}' in text and
           "process_resident_memory_bytes" in text, "GET /metrics", text)
    names = [x.split()[2] for x in text.splitlines() if x.startswith("# TYPE")]
    tap.ok(len(names) == len(set(names)) and all(
        n.endswith(("_total", "_seconds", "_bytes", "_running", "_waiting", "_workers", "_connections", "_media"))
        for n in names), "metrics carry their units", names)

    helps = {x.split()[2]: x.split(None, 3)[3] for x in text.splitlines() if x.startswith("# HELP")}
    types = {x.split()[2]: x.split()[3] for x in text.splitlines() if x.startswith("# TYPE")}
    series = {x.split("{")[0].split()[0] for x in text.splitlines() if x and not x.startswith("#")}
    of = {n: t for n, t in types.items() if t != "histogram"}
    of.update({n + end: "histogram" for n, t in types.items() if t == "histogram" for end in ("_bucket", "_sum", "_count")})
    tap.ok(set(helps) == set(types) and series == set(of) and all(
        (t == "counter") == n.endswith("_total") and t in ("counter", "gauge", "histogram") and helps[n] for n, t in types.items()),
        "each has a help text, a type that fits its name, and a value", (helps, types, series))
    with open(os.path.join(program.ROOT, "docs", "SERVER.md"), encoding="utf-8") as f:
        told = {x.split("`")[1]: x.split("|")[2].strip() for x in f if x.startswith(("| `ivchat_", "| `process_"))}
    tap.ok(told == types, "docs/SERVER.md lists exactly these", set(told.items()) ^ set(types.items()))

    # ---- slow clients, side by side
    socks = [socket.create_connection((s.host, s.port)) for _ in range(3)]
    socks[0].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    start = time.monotonic()
    cut = None
    while time.monotonic() - start < 40 and cut is None:
        time.sleep(0.5)
        try:
            socks[0].sendall(b"y")
        except OSError:
            cut = time.monotonic() - start
    tap.ok(cut and 15 < cut < 30, "a head that drips is cut after 20 s", cut)
    socks[1].settimeout(10)
    try:
        rest = socks[1].recv(10)
    except OSError as error:
        rest = error
    tap.ok(rest == b"" or isinstance(rest, ConnectionError), "and a connection that says nothing", rest)
    for x in socks:
        x.close()
    code = s.stop()
    tap.ok(code == 143 and "stopping:" in s.log, "SIGTERM ends it with 143", (code, s.log[-500:]))

with Server(wait=True) as s:
    tap.ok(s.get("/metrics").status == 404, "no /metrics without --metrics")
    tap.ok(s.stop(2) == 130, "SIGINT ends it with 130")

# ---- keys
keys = program.path("keys.txt")
with open(keys, "w", encoding="ascii") as f:
    f.write("# ours\nsk-first-key\nsk-second-key\n")

with Server("--api-key", keys, "--cors-origins", "https://app.example,http://127.0.0.1:1", "--metrics") as s:
    tap.ok(s.get("/health").status == 200, "/health is open")
    # ---- bodies that nobody reads, of strangers
    before, held = s.status("VmRSS"), []
    for line, origin in ((b"GET /health", b""), (b"OPTIONS /v1/videos", b"Origin: https://app.example\r\n")):
        x = socket.create_connection((s.host, s.port), 20)
        x.sendall(line + b" HTTP/1.1\r\nHost: localhost\r\n" + origin + b"Content-Length: %d\r\n\r\n" % (48 << 20))
        for _ in range(47):
            x.sendall(bytes(1 << 20))
        held.append(x)
    x = socket.create_connection((s.host, s.port), 20)
    x.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
    tap.ok(b" 200 " in x.recv(4096), "a body that nobody reads does no harm")
    after = s.status("VmRSS")
    tap.ok(after - before < 32 << 20, "nor takes memory without a key", (before, after))
    for x in held + [x]:
        x.close()
    shut = [(p, m) for p, m in (("/", "GET"), ("/v1/models", "GET"), ("/metrics", "GET"), ("/openapi.json", "GET"),
                                ("/v1/chat/completions", "POST"), ("/tokenize", "POST"), ("/nothing", "GET"),
                                ("/v1/videos", "POST"), ("/detokenize", "POST"), ("/apply-template", "POST"),
                                ("/v1/embeddings", "POST"), ("/invocations", "POST"), ("/props", "GET"))
            if s.request(m, p, "{}" if m == "POST" else None).status != 401]
    tap.ok(not shut, "every other path wants a key, known or not", shut)
    r = s.get("/v1/models")
    tap.ok(r.error["code"] == "invalid_api_key" and r.error["type"] == "authentication_error" and
           r.headers["www-authenticate"] == "Bearer", "401 in OpenAI's shape", r)
    tap.ok(s.get("/").headers["www-authenticate"].startswith("Basic "), "a browser is asked for a password")
    good = [{"Authorization": "Bearer sk-second-key"}, {"Authorization": "bearer sk-first-key"},
            {"X-Api-Key": "sk-first-key"}, {"Authorization": "Basic eDpzay1maXJzdC1rZXk="}]
    bad = [{"Authorization": "Bearer sk-first-ke"}, {"Authorization": "Bearer sk-first-key2"},
           {"Authorization": "Bearer "}, {"Authorization": "Bearer # ours"}, {"Authorization": "sk-first-key"},
           {"Authorization": "Basic !!!"}, {"X-Api-Key": ""}, {"Authorization": "Bearer " + "x" * 5000}]
    codes = [s.get("/v1/models", headers=h).status for h in good + bad]
    tap.ok(codes == [200] * len(good) + [401] * len(bad), "keys that open and keys that do not", codes)
    r = s.request("OPTIONS", "/v1/models", headers={"Origin": "https://app.example",
                                                    "Access-Control-Request-Method": "GET"})
    tap.ok(r.status == 204 and r.headers["access-control-allow-origin"] == "https://app.example", "preflight", r)
    allowed = {x.strip().lower() for x in r.headers["access-control-allow-headers"].split(",")}
    tap.ok({"authorization", "*"} <= allowed, "with the head lines of any client; * does not stand for the key's", r)
    r = s.get("/v1/models", headers={"Origin": "https://app.example", **good[0]})
    tap.ok(r.status == 200 and r.headers["access-control-allow-origin"] == "https://app.example" and
           r.headers["vary"] == "Origin", "an allowed origin", r)
    r = s.get("/v1/models", headers={"Origin": "https://app.example.evil", **good[0]})
    tap.ok(r.status == 403, "an origin that only begins alike", r)
with Server(env={"IVCHAT_API_KEY": "sk-from-environment"}) as s:
    tap.ok(s.get("/v1/models").status == 401 and
           s.get("/v1/models", headers={"Authorization": "Bearer sk-from-environment"}).status == 200,
           "IVCHAT_API_KEY")
with Server("--api-key", "-", stdin="sk-from-stdin\n") as s:
    tap.ok(s.get("/v1/models", headers={"Authorization": "Bearer sk-from-stdin"}).status == 200, "--api-key -")

# ---- TLS
pem = program.path("cert.pem"), program.path("key.pem")
made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem[1], "-out", pem[0],
                       "-days", "2", "-subj", "/CN=localhost"], capture_output=True, check=False)
if made.returncode:
    tap.skip("TLS", "no openssl program")
else:
    with Server("--ssl-cert-file", pem[0], "--ssl-key-file", pem[1]) as s:
        tap.ok(s.tls and s.post("/v1/chat/completions", HELLO).status == 200, "https", s.log)
        try:
            plain = s.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        except (OSError, ssl.SSLError):
            plain = b""
        tap.ok(b" 200 " not in plain, "no answer in plain text", plain)

# ---- options that make no sense
for options, text in ((["--port", "70000"], "--port"), (["--media-path", "/nowhere/at/all"], "--media-path"),
                      (["--api-key", "/nowhere"], "--api-key"), (["--host", "no.such.host.invalid"], "--host"),
                      (["--ssl-cert-file", pem[0]], "--ssl-key-file")):
    r = run("serve", "-m", model, "--port", "0", *options)
    tap.ok(r.code == 2 and text in r.err, "refused: " + " ".join(options)[:40], r)
r = run("serve", "-m", "/nowhere", "--port", "0")
tap.ok(r.code == 3, "no model: exit code 3", r)
with open(program.path("empty.txt"), "w", encoding="ascii"):
    pass
r = run("serve", "-m", model, "--port", "0", "--api-key", program.path("empty.txt"))
tap.ok(r.code == 2 and "holds no key" in r.err, "a file without a key", r)
taken = socket.create_server(("127.0.0.1", 0))
r = run("serve", "-m", model, "--port", str(taken.getsockname()[1]))
tap.ok(r.code == 1 and "cannot listen" in r.err, "a port that is taken", r)
taken.close()
with Server(wait=True) as s:
    r = run("serve", "-m", model, "--port", str(s.port))
    tap.ok(r.code == 1 and "cannot listen" in r.err, "a port at which another server listens", r)
    kept = s.connect()
    kept.request("GET", "/health")
    kept.getresponse().read()
    port = s.port
    tap.ok(s.stop() == 143, "the first one ends, a connection open")
    with Server("--port", str(port)) as again:
        tap.ok(again.port == port and again.get("/health").status == 200, "and another takes its place at once", again.log)
    kept.close()

# ---- bodies that are too long, of clients that send all before they read
with Server("--max-body", "6000000") as s:
    r = [s.post("/v1/videos", b"x" * 11000000).status for _ in range(3)]
    tap.ok(r == [413] * 3, "a client that does not listen while it sends hears 413", r)
    start = time.monotonic()
    answer = s.raw(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11000000\r\nExpect: 100-continue\r\n\r\n")
    tap.ok(b" 413 " in answer.split(b"\r\n")[0] and time.monotonic() - start < 5, "one that asks first hears it at once", answer)
    answer = s.raw(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13000000\r\n\r\n")
    tap.ok(b" 413 " in answer.split(b"\r\n")[0], "and so does one that has more than twice as much", answer)
with Server("--max-body", "6000000", "--api-key", keys) as s:
    answer = s.raw(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11000000\r\n\r\n")
    tap.ok(b" 413 " in answer.split(b"\r\n")[0], "and one without a key", answer)

# ---- what requests leave open
with Server("--num-frames", "4", "--hd-num", "4", "--fix-ratio", "1x1", "--ctx", "64") as s:
    tap.ok("warning" not in s.log, "media come with the requests: no warning that there are none", s.log)
    tap.ok(s.get("/v1/models").json["data"][0]["max_model_len"] == 64 and
           s.post("/tokenize", {"content": "x"}).json["max_model_len"] == 64, "the context that is served is told")
r = run("serve", "-m", model, "--port", "0", "--ctx", "40000")
tap.ok(r.code == 2 and "40000 positions" in r.err, "more context than the model has", r)
r = run("serve", "-m", model, "--port", "0", "--num-frames", "9", "--max-frames", "8")
tap.ok(r.code == 2 and "--max-frames" in r.err, "more frames by default than may be asked for", r)
tap.done()

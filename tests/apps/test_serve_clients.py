#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that people use: curl, the official openai client, and schemathesis on the description of the interface.

The last two are looked for in $IVCHAT_CLIENTS_PYTHON (a Python with `openai` and `schemathesis`), then in this one.
"""
import json
import os
import shutil
import subprocess
import sys

import program
from program import Tap
from serverrig import MEDIA, VIDEO, Server, data_url

tap = Tap()
model = program.TINY

PYTHON = os.environ.get("IVCHAT_CLIENTS_PYTHON", sys.executable)


def has(module):
    return subprocess.run([PYTHON, "-c", "import " + module], capture_output=True, check=False).returncode == 0


CLIENT = r'''
import base64, json, sys
from openai import OpenAI, NotFoundError, BadRequestError, AuthenticationError, APIStatusError
base, video, media, ident = sys.argv[1:5]
c = OpenAI(base_url=base + "/v1", api_key="client-key", max_retries=0)
url = "data:video/mp4;base64," + base64.b64encode(open(video, "rb").read()).decode()
jpg = base64.b64encode(open(media + "/photo.jpg", "rb").read()).decode()
def part(u): return {"type": "video_url", "video_url": {"url": u}}
def ask(*content, **k):
    return c.chat.completions.create(model="ivchat", max_tokens=6,
        messages=[{"role": "user", "content": [*content, {"type": "text", "text": "What happens?"}]}], **k)
out = {"models": [m.id for m in c.models.list()]}
plain = ask(part(url))
out["data"] = plain.choices[0].message.content
out["usage"] = [plain.usage.prompt_tokens, plain.usage.completion_tokens, plain.usage.prompt_tokens_details.cached_tokens]
out["id"] = ask({"type": "video", "id": ident}).choices[0].message.content
out["file"] = ask(part("file://" + video)).choices[0].message.content
text, last = "", None
for chunk in ask(part(url), stream=True, stream_options={"include_usage": True}):
    last = chunk
    for x in chunk.choices: text += x.delta.content or ""
out["stream"] = text
out["stream_usage"] = last.usage.total_tokens
two = c.chat.completions.create(model="ivchat", max_tokens=6, messages=[
    {"role": "user", "content": [part(url), {"type": "text", "text": "What happens?"}]},
    {"role": "assistant", "content": out["data"]}, {"role": "user", "content": "Who is in it?"}])
out["second"] = [two.choices[0].message.content, two.usage.prompt_tokens_details.cached_tokens]
out["frames"] = ask(part("data:video/jpeg;base64," + ",".join([jpg] * 3))).choices[0].finish_reason
out["image"] = ask({"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + jpg}}).choices[0].finish_reason
lp = ask(part(url), logprobs=True, top_logprobs=2)
out["logprobs"] = [len(lp.choices[0].logprobs.content), len(lp.choices[0].logprobs.content[0].top_logprobs)]
e = c.embeddings.create(model="ivchat", input="x", extra_body={"input": [part(url)]})
out["embedding"] = len(e.data[0].embedding)
def refused(f):
    try: f()
    except APIStatusError as x: return [x.status_code, x.code, type(x).__name__]
out["outside"] = refused(lambda: ask(part("file:///etc/passwd")))
out["gone"] = refused(lambda: ask({"type": "video", "id": "video-none"}))
out["bad"] = refused(lambda: ask(part("data:video/mp4;base64,QUJD")))
out["key"] = refused(lambda: OpenAI(base_url=base + "/v1", api_key="x", max_retries=0).models.list())
print(json.dumps(out))
'''

with Server("--media-path", MEDIA, "--api-key", "-", stdin="client-key\n") as s:
    base = "http://127.0.0.1:%d" % s.port
    auth = {"Authorization": "Bearer client-key"}
    wanted = s.chat({"type": "video_url", "video_url": {"url": data_url()}}, "What happens?", headers=auth)

    # ---- curl
    if not shutil.which("curl"):
        tap.skip("curl", "curl is not installed")
    else:
        def curl(*options):
            return subprocess.run(["curl", "-sS", "--max-time", "60", "-H", "Authorization: Bearer client-key", *options],
                                  capture_output=True, check=False).stdout.decode()
        ident = json.loads(curl(base + "/v1/videos", "-F", "file=@" + VIDEO))["id"]
        body = {"max_tokens": 6, "messages": [{"role": "user", "content": [
            {"type": "video", "id": ident}, {"type": "text", "text": "What happens?"}]}]}
        r = json.loads(curl(base + "/v1/chat/completions", "-d", json.dumps(body)))
        tap.ok(r["choices"] == wanted.json["choices"], "curl: a form, then a chat", r)
        r = curl("-N", base + "/v1/chat/completions", "-d", json.dumps(dict(body, stream=True)))
        tap.ok(r.rstrip().endswith("data: [DONE]"), "curl: a stream", r)
        r = json.loads(curl("-H", "Expect: 100-continue", "-H", "Content-Type: video/mp4", "--data-binary",
                            "@" + VIDEO, base + "/v1/videos"))
        tap.ok(r["id"] != ident and r["bytes"] == os.path.getsize(VIDEO), "curl: raw bytes", r)

    # ---- the official client
    if not has("openai"):
        tap.skip("openai", "the openai module is not installed (pip install openai)")
    else:
        ident = s.post("/v1/videos", open(VIDEO, "rb").read(), headers=auth).json["id"]
        done = subprocess.run([PYTHON, "-c", CLIENT, base, VIDEO, MEDIA, ident], capture_output=True, check=False)
        out = json.loads(done.stdout) if done.returncode == 0 else {}
        answer = wanted.content
        tap.ok(done.returncode == 0, "openai: everything runs", done.stderr.decode()[-2000:])
        tap.ok([out.get(k) for k in ("data", "id", "file", "stream")] == [answer] * 4,
               "openai: data URL, upload, file, stream: the same answer", out)
        tap.ok(out["usage"][:2] == [wanted.json["usage"]["prompt_tokens"], 6] and
               out["stream_usage"] == wanted.json["usage"]["total_tokens"], "openai: usage", out)
        tap.ok(out["second"][1] > 0 and out["frames"] and out["image"], "openai: two turns, frames, an image", out)
        tap.ok(out["logprobs"] == [6, 2] and out["embedding"] > 8, "openai: logprobs, embeddings", out)
        tap.ok(out["outside"] == [400, "file_not_allowed", "BadRequestError"] and
               out["gone"] == [404, "media_not_found", "NotFoundError"] and out["bad"][:2] == [415, "not_a_video"] and
               out["key"] == [401, "invalid_api_key", "AuthenticationError"], "openai: its own exceptions", out)

# ---- the description
with Server("--metrics", "-n", "4", "--ctx", "400") as s:
    r = s.get("/openapi.json")
    known = {(m.upper(), p) for p, v in r.json["paths"].items() for m in v if m != "parameters"}
    tap.ok(r.json["openapi"].startswith("3.1") and len(known) >= 15, "/openapi.json", known)
    missing = [(m, p) for m, p in known
               if s.request(m, p.replace("{id}", "x").replace("{name}", "x"), "" if m == "POST" else None).status in
               (405, 500, 501)]
    tap.ok(not missing, "every path of it exists", missing)
    st = shutil.which("st", path=os.path.dirname(PYTHON)) or shutil.which("schemathesis")
    if not st:
        tap.skip("schemathesis", "schemathesis is not installed (pip install schemathesis)")
    else:
        # all checks; the file says what a schema cannot
        rules = os.path.join(program.ROOT, "tests", "serve", "schemathesis.toml")
        done = subprocess.run([st, "--config-file", rules, "run", "http://127.0.0.1:%d/openapi.json" % s.port, "--seed", "1",
                               "--max-examples", "15", "--max-time", "60"],
                              capture_output=True, check=False, cwd=program.SCRATCH.name, timeout=200)
        tap.ok(done.returncode == 0, "schemathesis finds nothing", done.stdout.decode("utf-8", "replace")[-4000:])
        tap.ok(s.get("/health").status == 200 and 'status="500"' not in s.get("/metrics").body.decode(), "and no 500")
tap.done()

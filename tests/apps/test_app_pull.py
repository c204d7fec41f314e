#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ivchat pull against a hub on this machine (tests/hub) that does everything a network does: the files are
right or the message and the exit code are. Cases run side by side; each has a repository and a cache of its own."""
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time
import traceback

import hubrig
import program
from hubrig import (MIB, TOKEN, Hub, content, expected, leftovers, model_files, repo_folder, snapshot, sums, wait_for,
                    wanted)

tap = program.Tap()
hubrig.clean_environment()
if not hubrig.available():
    tap.skip("pull", hubrig.NO_SERVER)
    tap.done()
hub = Hub()
SMALL = model_files(2, 5000)
CASES = []


def case(f):
    CASES.append(f)
    return f


def complete(home, name, files=None):
    """None, or what is wrong with the snapshot."""
    files = files or hub.made[name]
    got, want = sums(snapshot(home, name)), expected(files, wanted(files))
    if got != want:
        return "files: %s, wanted %s" % (sorted(got), sorted(want))
    left = leftovers(home)
    return "left: %s" % left if left else None


def bodies(name):
    return [r for r in hub.requests(name + "/") if r["method"] == "GET" and r["status"] in (200, 206) and "/api/" not in r["path"]]


def fetched(r):
    return json.loads(r.out)["fetched_bytes"]


@case
def plain():
    name, home = hub.repo("test/plain"), hub.cache("plain")
    files = hub.made[name]
    r = hub.pull(name, home)
    why = complete(home, name)
    yield r.code == 0 and not why and r.out == snapshot(home, name) + "\n", "the model is there, its folder on standard output", "%s\n%s" % (r, why)
    links = [os.readlink(os.path.join(snapshot(home, name), n)) for n in wanted(files)]
    yield all(x.startswith("../../blobs/") for x in links), "links are relative", links
    with open(os.path.join(repo_folder(home, name), "refs", "main"), encoding="utf-8") as f:
        yield f.read() == hubrig.COMMIT, "refs/main holds the commit and no newline"
    total = sum(len(files[n]) for n in wanted(files))
    sent = sum(q["sent"] for q in bodies(name))
    yield sent == total, "every byte was sent once", "%d of %d" % (sent, total)
    before = len(hub.requests(name))
    r = hub.pull(name, home, "--json")
    again = hub.requests(name)[before:]
    yield (r.code == 0 and fetched(r) == 0 and all("/api/" in q["path"] for q in again)), "a second pull asks for the list only", again
    for n in ("model-00001-of-00003.safetensors", "config.json"):
        os.unlink(os.path.join(snapshot(home, name), n))
    r = hub.pull(name, home, "--json")
    yield r.code == 0 and fetched(r) == 0 and not complete(home, name), "lost links are made again from the blobs", r
    r = hub.pull(name, home, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    yield r.code == 0 and r.out == snapshot(home, name) + "\n", "HF_HUB_OFFLINE: what is complete is found", r
    os.unlink(os.path.join(snapshot(home, name), "tokenizer.json"))
    r = hub.pull(name, home, HF_HUB_OFFLINE="1")
    yield r.code == 6 and "HF_HUB_OFFLINE" in r.err and r.out == "", "HF_HUB_OFFLINE: what is not, is refused", r


@case
def choices():
    name, home = hub.repo("test/choice", SMALL), hub.cache("choice")
    r = hub.pull(name, home, "--dry-run")
    yield (r.code == 0 and not os.path.exists(os.path.join(home, "hub", "models--test--choice")) and
           "load  model-00001-of-00002.safetensors" in r.out and "README" not in r.out), "--dry-run tells and loads nothing", r
    r = hub.pull(name, home, "--include", "*.json", "--include", "original/", "--exclude", "tok*")
    yield (r.code == 0 and set(sums(snapshot(home, name))) ==
           {"config.json", "model.safetensors.index.json", "original/consolidated.safetensors"}), "--include and --exclude", r
    nested = os.path.join(snapshot(home, name), "original", "consolidated.safetensors")
    yield os.readlink(nested).startswith("../../../blobs/"), "a nested link", os.readlink(nested)
    r = hub.pull(name, home, "--include", "*.gguf")
    yield r.code == 2 and "matches" in r.err, "nothing matches", r
    empty = hub.repo("test/nothing", {"README.md": b"x"})
    r = hub.pull(empty, home)
    yield r.code == 2 and "none of its 1 files" in r.err, "nothing that ivchat reads", r
    r = hub.pull(name + "@refs/pr/1", home)
    yield r.code == 0 and os.path.exists(os.path.join(repo_folder(home, name), "refs/refs/pr/1")), "a revision with slashes", r
    r = hub.pull(name + "@" + hubrig.COMMIT, home, "--json")
    yield r.code == 0 and json.loads(r.out)["commit"] == hubrig.COMMIT, "a commit", r
    for wrong in ("noslash", "a/b/c", "../x", "a--b/c", "-a/b", "a/b.git", "a/b@../x", "a/b@", "a/b@x y", "a/b:Q4_K", "a/b@/x", "\x1b/b"):
        r = hub.pull(wrong, home)
        yield r.code == 2 and len(r.lines) == 1 and "\x1b" not in r.err, "refused: %r" % wrong, r


@case
def tokens():
    name, home = hub.repo("test/gated", SMALL, gated=True), hub.cache("gated")
    r = hub.pull("OpenGVLab/InternVideo2_gated", home) if hub.repo("OpenGVLab/InternVideo2_gated", SMALL, gated=True) else None
    yield (r.code == 6 and "huggingface.co/OpenGVLab/InternVideo2_gated" in r.err and "HF_TOKEN" in r.err and
           "huggingface.co/mistralai/Mistral-7B-Instruct-v0.3" in r.err), "gated, no token: which pages, which variable", r
    r = hub.pull(name, home, token="hf_stranger")
    yield r.code == 6 and "HTTP 403" in r.err and "no access" in r.err and "hf_stranger" not in r.err, "gated, a stranger's token", r
    r = hub.pull(name, home, token="wrong_token")
    yield r.code == 6 and "HTTP 401" in r.err and "does not accept" in r.err and "wrong_token" not in r.err, "a token that is none", r
    r = hub.pull(name, home, "-v", token=TOKEN)
    yield r.code == 0 and not complete(home, name), "gated, with a token", r
    log = hub.requests(name)
    yield all(q["token"] == "" for q in log if q["host"] == "store") and any(q["host"] == "store" for q in log), "no token reaches the store", log
    yield any(q["token"] == "Bearer " + TOKEN for q in log if q["host"] == "hub"), "the hub sees it"
    told = r.out + r.err + "".join(open(os.path.join(t, n), "rb").read().decode("latin-1") + n for t, _, ns in os.walk(home) for n in ns)
    yield TOKEN not in told, "the token is in no output and no file"
    other = hub.cache("gated-file")
    os.makedirs(other)
    with open(os.path.join(other, "token"), "w", encoding="utf-8") as f:
        f.write(TOKEN + "\n")
    r = hub.pull(name, other)
    yield r.code == 0, "the token file of HF_HOME", r
    r = hub.pull(name, hub.cache("gated-path"), HF_TOKEN_PATH=os.path.join(other, "token"))
    yield r.code == 0, "HF_TOKEN_PATH", r
    r = hub.pull(name, hub.cache("gated-bad"), token="hf_a\nX-Evil: 1")
    yield r.code == 2 and "control" in r.err and "Evil" not in r.err, "a token with a line break", r
    echo = hub.repo("test/echo", SMALL, fail_info="500 -1")
    r = hub.pull(echo, home, "--retries", "0", token=TOKEN)
    yield r.code == 6 and "HTTP 500" in r.err and TOKEN not in r.err, "a server that repeats the token", r
    r = hub.pull(name, home, HF_ENDPOINT="http://user:secret@127.0.0.1:9")
    yield r.code == 2 and "HF_ENDPOINT" in r.err and "secret" not in r.err, "a password in HF_ENDPOINT", r
    private = hub.repo("test/private", SMALL, private=True)
    r = hub.pull(private, home)
    yield r.code == 6 and "no such repository, or a private one" in r.err and "HF_TOKEN" in r.err, "private, no token", r
    r = hub.pull("test/absent", home)
    yield r.code == 6 and "no such repository" in r.err, "no such repository", r
    r = hub.pull("test/absent", home, token=TOKEN)
    yield r.code == 6 and "HTTP 404" in r.err, "no such repository, with a token", r
    r = hub.pull(name + "@nowhere", home, token=TOKEN)
    yield r.code == 6 and 'no branch, tag or commit "nowhere"' in r.err, "no such revision", r


FAILING = [
    # name, scenario, arguments, words of the message
    ("loop", {"loop": True}, "redirected more than 10 times"),
    ("wrong-range", {"wrong_range": True, "cut": "model-00001-of-00002.safetensors 1000 1"}, "the server sends"),
    ("longer", {"extra": 10}, "the server sends"),
    ("shorter", {"short_by": 10}, "the connection ended before the answer did"),
    ("wrong-bytes", {"wrong_bytes": "model-00002-of-00002.safetensors"}, "SHA-256"),
    ("wrong-text", {"wrong_bytes": "model.safetensors.index.json"}, "SHA-1"),  # config.json would be tokenizer_config.json too
    ("404", {"fail_get": "404 -1"}, "HTTP 404"),
    ("404-head", {"fail_head": "404 -1"}, "HTTP 404"),
    ("416", {"fail_get": "416 -1"}, "HTTP 416"),
    ("429", {"fail_get": "429 -1"}, "HTTP 429"),
    ("429-long", {"fail_info": "429 -1 100000"}, "HTTP 429: too many requests"),
    ("503", {"fail_get": "503 -1"}, "HTTP 503"),
    ("503-info", {"fail_info": "503 -1"}, "HTTP 503"),
    ("500-tree", {"fail_tree": "500 -1"}, "HTTP 500"),
    ("stall", {"stall": "config.json 0 -1"}, "nothing arrived for 2 s"),
    ("cut-always", {"cut": "config.json 0 -1"}, "the connection ended before the answer did"),
    ("no-etag", {"no_etag": True}, "no usable ETag"),
    ("other-etag", {"other_etag": True}, "checksum"),
    ("head-size", {"head_size_lies": True}, "bytes in the hub's list"),
    ("next-away", {"page": 2, "next_away": True}, "another host"),
]


def failing(key, scenario, words):
    def run():
        name, home = hub.repo("fail/" + key, SMALL, **scenario), hub.cache("fail-" + key)
        r = hub.pull(name, home, "--retries", "1", "--quiet")
        yield r.code == 6 and r.out == "" and len(r.lines) == 1 and words in r.err, "fails: " + key, "wanted %s\n%s" % (words, r)
        yield not os.path.exists(os.path.join(repo_folder(home, name), "refs", "main")), key + ": no ref to what is not complete"
        broken = [n for n, s in sums(snapshot(home, name)).items() if s != expected(SMALL, [n])[n]]
        yield not broken, key + ": nothing unverified has a name", broken
        if "wrong" in key and key != "wrong-range":
            size = len(SMALL[scenario["wrong_bytes"]])
            yield not [x for x in leftovers(home) if os.path.getsize(x) == size], key + ": the wrong bytes are gone", leftovers(home)
    CASES.append(run)


for item in FAILING:
    failing(*item)

RECOVERING = [
    ("no-ranges", {"no_ranges": True}, False),
    ("no-ranges-cut", {"no_ranges": True, "cut": "model-00001-of-00003.safetensors 1500000 1"}, False),
    ("cut", {"cut": "model-00001-of-00003.safetensors 1300000 2"}, True),
    ("cut-small", {"cut": "config.json 5 1"}, True),
    ("503-first", {"fail_get": "503 1", "fail_head": "502 1", "fail_tree": "500 1", "fail_info": "504 1"}, True),
    ("429-first", {"fail_get": "429 1 1"}, True),
    ("stall-once", {"stall": "model-00002-of-00003.safetensors 100000 1"}, True),
    ("expiring", {"expire": 1, "cut": "model-00002-of-00003.safetensors 100000 2"}, True),
    ("pages", {"page": 2}, True),
    ("not-in-a-store", {"large": 0}, True),
]


def recovering(key, scenario, exact):
    def run():
        name, home = hub.repo("mend/" + key, **scenario), hub.cache("mend-" + key)
        begun = time.monotonic()
        r = hub.pull(name, home, "--json", "--connections", "3")
        why = r.code != 0 or complete(home, name)
        yield r.code == 0 and not why, "mended: " + key, "%s\n%s" % (r, why)
        files = hub.made[name]
        total = sum(len(files[n]) for n in wanted(files))
        yield r.code == 0 and (fetched(r) == total if exact else fetched(r) >= total), key + ": bytes received", "%s of %d" % (r.out[-200:], total)
        if key == "429-first":
            yield time.monotonic() - begun >= 1 and "as the server asks" in r.err, "Retry-After is obeyed", r
        if key == "expiring":
            heads = [q for q in hub.requests(name) if q["method"] == "HEAD" and "00002" in q["path"]]
            yield len(heads) >= 2, "an expired address is asked for again", heads
    CASES.append(run)


for item in RECOVERING:
    recovering(*item)


@case
def expired_for_all():
    """Eight streams are cut at once, and their one address has expired meanwhile."""
    files = {"model.safetensors": content(32 * MIB)}
    name, home = hub.repo("mend/expired", files, expire=8, cut="model.safetensors 100000 8", slow_head=300), hub.cache("expired")
    r = hub.pull(name, home, "--connections", "8")
    yield r.code == 0 and sums(snapshot(home, name)) == expected(files, files), "an address that eight streams lose at once", r
    heads = [q for q in hub.requests(name) if q["method"] == "HEAD"]
    yield len(heads) == 2, "one of the streams asks for the next address", len(heads)


@case
def hostile_lists():
    home = hub.cache("hostile")
    entry = '{"type":"file","oid":"%s","size":%s,"path":%s}'
    oid = "a" * 40
    for i, path in enumerate(("../evil", "a/../../evil", "/etc/evil", "a\\b", "..", "a//b", "./a", "a/", "C:/x", "C:x", "a\nb", "a\x1b[31mb", "a\u202eb",
                              "x" * 300, "a/" * 600 + "b", "", "a\u0000b")):
        name = hub.repo("hostile/name%d" % i, {})
        tree = "[" + entry % (oid, 5, '"config.json"') + "," + entry % (oid, 5, json.dumps(path)) + "]"
        hub.scenario(name, tree_file=hub.file("tree%d" % i, tree))
        r = hub.pull(name, home)
        yield r.code == 6 and "unsafe" in r.err and len(r.lines) == 1 and "\x1b" not in r.err, "unsafe name %r" % path[:20], r
    good = entry % (oid, 5, '"config.json"')
    for key, text, words in (
            ("twice", "[%s,%s]" % (good, good), "twice"),
            ("object", "{}", "no JSON array"), ("text", "<html>", "invalid JSON"), ("empty", "", "invalid JSON"),
            ("numbers", "[1,2]", "no type"), ("no-path", '[{"type":"file","oid":"%s","size":1}]' % oid, "no path"),
            ("no-size", '[{"type":"file","oid":"%s","path":"config.json"}]' % oid, "no size"),
            ("minus", "[%s]" % (entry % (oid, -5, '"config.json"')), "no size"),
            ("real", "[%s]" % (entry % (oid, 1e300, '"config.json"')), "no size"),
            ("exabyte", "[%s]" % (entry % (oid, 1 << 60, '"config.json"')), "more than"),
            ("no-sum", '[{"type":"file","oid":"../x","size":5,"path":"config.json"}]', "no checksum"),
            ("bad-lfs", '[{"type":"file","oid":"%s","size":5,"path":"config.json","lfs":{"oid":"zz","size":5}}]' % oid, "no checksum"),
            ("deep", "[" * 100000, "depth"), ("utf-8", b'["\xff"]', "invalid JSON"),
            ("file-and-folder", "[%s,%s]" % (good, entry % (oid, 5, '"config.json/tokenizer.json"')), None)):
        name = hub.repo("hostile/" + key, {"config.json": b"12345"})
        hub.scenario(name, tree_file=hub.file("tree-" + key, text))
        r = hub.pull(name, home)
        yield r.code == 6 and len(r.lines) == 1 and (words is None or words in r.err), "list: " + key, "wanted %s\n%s" % (words, r)
    name = hub.repo("hostile/huge", {})
    hub.scenario(name, tree_file=hub.file("tree-huge", b"[" + b" " * (65 * MIB)))
    r = hub.pull(name, home)
    yield r.code == 6 and "longer than" in r.err, "65 MiB of JSON", r
    for key, text in (("no-sha", "{}"), ("bad-sha", '{"sha":"../../x"}'), ("array", "[]"), ("other", '{"sha":"%s"}' % ("b" * 39))):
        name = hub.repo("hostile/info-" + key, SMALL, info_file=hub.file("info-" + key, text))
        r = hub.pull(name, home)
        yield r.code == 6 and "names no commit" in r.err, "answer on the revision: " + key, r
    r = hub.pull(hub.repo("hostile/other-commit", SMALL, commit="b" * 40) + "@" + "b" * 40, home)
    yield r.code == 0, "a commit is taken at its word", r
    yield not os.path.exists(os.path.join(hub.top, "evil")) and set(os.listdir(home)) == {"hub"}, "nothing was written elsewhere", os.listdir(home)


@case
def long_list():
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": content(9000)}
    name, home = hub.repo("test/long", files), hub.cache("long")
    import hashlib
    rows = ['{"type":"file","oid":"%040x","size":1,"path":"part/%d"}' % (i, i) for i in range(100000)]
    for n, data in files.items():
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        lfs = ',"lfs":{"oid":"%s","size":%d,"pointerSize":1}' % (hashlib.sha256(data).hexdigest(), len(data)) if len(data) > 4096 else ""
        rows.append('{"type":"file","oid":"%s","size":%d,"path":"%s"%s}' % (oid, len(data), n, lfs))
    hub.scenario(name, tree_file=hub.file("tree-long", "[%s]" % ",".join(rows)))
    r = hub.pull(name, home)
    yield r.code == 0 and sums(snapshot(home, name)) == expected(files, files), "a list of 100,000 files", r


@case
def tls():
    safe = Hub(tls=True)
    try:
        name = safe.repo("test/tls", SMALL)
        home = safe.cache("tls")
        r = safe.pull(name, home)
        yield r.code == 6 and "certificate" in r.err and len(r.lines) == 1, "an unknown certificate", r
        r = safe.pull(name, home, SSL_CERT_FILE=safe.certificate)
        yield r.code == 0 and sums(snapshot(home, name)) == expected(SMALL, wanted(SMALL)), "a certificate of SSL_CERT_FILE", r
        down = safe.repo("test/down", SMALL, downgrade=True)
        r = safe.pull(down, home, token=TOKEN, SSL_CERT_FILE=safe.certificate)
        yield r.code == 6 and "unprotected" in r.err, "from https to http", r
    finally:
        safe.close()


def journals(home):
    """Contents of the journals in a cache."""
    out = []
    for path in leftovers(home):
        if path.endswith(".journal.incomplete"):
            with open(path, "rb") as f:
                out.append(f.read())
    return out


def chunks_there(home, name):
    """MiB that have arrived; a whole file has no journal any more, but a name."""
    folder = snapshot(home, name)
    whole = [n for n in (os.listdir(folder) if os.path.isdir(folder) else []) if n.endswith(".safetensors")]
    return sum(j[24:].count(1) for j in journals(home)) + sum(os.path.getsize(os.path.join(folder, n)) // MIB for n in whole)


@case
def killed():
    """kill -9 three times, each after six more chunks, then the rest; the 100 moments are in tests/hub/soak_pull.py"""
    files = model_files(2, 14 * MIB + 5)
    name, home = hub.repo("test/killed", files, throttle=2 * MIB), hub.cache("killed")
    streams, kills, torn = 3, 0, {}
    for target in (6, 12, 18):
        p = subprocess.Popen([program.IVCHAT, "pull", name, "--connections", str(streams)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env=program.environment(hub.environment(home)))
        wait_for(lambda p=p, n=target: p.poll() is not None or chunks_there(home, name) >= n)
        kills += p.poll() is None
        p.kill()
        p.wait()
        torn.update({n: s for n, s in sums(snapshot(home, name)).items() if s != expected(files, [n])[n]})
    yield not torn, "what has a name is whole, also after kill -9", torn
    p = program.run("info", "-m", name, env=hub.environment(home))
    yield p.code == 3 and "ivchat pull " + name in p.err, "-m of half a model names the command that finishes it", p
    hub.scenario(name)
    r = hub.pull(name, home, "--json")
    yield r.code == 0 and not complete(home, name), "kill -9: the next run finishes", r
    time.sleep(0.3)  # the server notices closed connections, then writes its log
    total = sum(len(files[n]) for n in wanted(files))
    sent = sum(q["sent"] for q in bodies(name))
    most = total + kills * streams * (MIB + MIB // 2)  # a chunk, and what lay in the sockets
    yield kills == 3 and sent <= most, "kill -9: no byte twice beyond a chunk a stream", "%d kills, %d sent, %d in all, at most %d" % (kills, sent, total, most)


@case
def damaged():
    files = model_files(1, 6 * MIB)
    name, home = hub.repo("test/damaged", files, throttle=MIB), hub.cache("damaged")
    p = subprocess.Popen([program.IVCHAT, "pull", name, "--connections", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         env=program.environment(hub.environment(home)))
    wait_for(lambda: p.poll() is not None or any(b"\1" in j[24:] for j in journals(home)))
    p.kill()
    p.wait()
    left = [x for x in leftovers(home) if x.endswith(".journal.incomplete")]
    data = left[0].replace(".journal.", ".ivchat.")
    with open(left[0], "rb") as f:
        at = f.read().index(b"\1", 24) - 24
    with open(data, "r+b") as f:
        f.seek(at * MIB)
        f.write(b"not what was there")
    hub.scenario(name)
    r = hub.pull(name, home, "--json")
    yield r.code == 0 and "damaged" in r.err and not complete(home, name), "bytes lost after a power failure are loaded again", r
    for key, spoil in (("cut", lambda p: os.truncate(p, 10)), ("magic", lambda p: open(p, "r+b").write(b"XX")), ("empty", lambda p: os.truncate(p, 0))):
        os.unlink(os.path.join(snapshot(home, name), "model-00001-of-00001.safetensors"))
        blob = data[:-len(".ivchat.incomplete")]
        os.rename(blob, data)
        with open(left[0], "wb") as f:
            f.write(b"IVPULL1\n" + (6 * MIB).to_bytes(8, "little") + MIB.to_bytes(8, "little") + b"\1" * 6)
        spoil(left[0])
        r = hub.pull(name, home, "--json")
        yield r.code == 0 and fetched(r) == 6 * MIB and not complete(home, name), "journal of no use: " + key, r


@case
def together():
    files = model_files(3, 3 * MIB)
    name, home = hub.repo("test/together", files, throttle=6 * MIB), hub.cache("together")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: hub.pull(name, home, "--json", "--connections", "2"), range(2)))
    total = sum(len(files[n]) for n in wanted(files))
    yield all(r.code == 0 for r in both) and not complete(home, name), "two pulls at once: both succeed", both
    yield sum(fetched(r) for r in both) == total, "two pulls at once: one download", "%s of %d" % ([fetched(r) for r in both], total)


@case
def same_contents():
    files = {"model-%05d-of-00002.safetensors" % (i + 1): content(MIB) for i in range(2)}
    name, home = hub.repo("test/same", files, throttle=2 * MIB), hub.cache("same")
    r = hub.pull(name, home, "--connections", "4", "--json")
    yield r.code == 0 and fetched(r) == MIB and sums(snapshot(home, name)) == expected(files, files) and "another process" not in r.err, "two names of one file", r


@case
def stopped():
    home = hub.cache("stopped")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        name = hub.repo("test/stopped%d" % number, model_files(1, 20 * MIB), throttle=2 * MIB)
        p = subprocess.Popen([program.IVCHAT, "pull", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=program.environment(hub.environment(home)))
        wait_for(lambda n=name: hub.requests(n) and leftovers(repo_folder(home, n)))
        begun = time.monotonic()
        p.send_signal(number)
        out, err = p.communicate(timeout=20)
        yield p.returncode == code and out == b"" and time.monotonic() - begun < 5, "signal %d stops a download" % number, "%s %s" % (p.returncode, err)
        r = program.run("rm", name, env=hub.environment(home))
        yield r.code == 0 and "freed" in r.err and not os.path.exists(repo_folder(home, name)), "rm takes the unfinished away", r


@case
def no_space():
    home = hub.cache("space")
    name = hub.repo("test/space", {})
    tree = '[{"type":"file","oid":"%s","size":9,"path":"model.safetensors","lfs":{"oid":"%s","size":%d,"pointerSize":1}}]'
    hub.scenario(name, tree_file=hub.file("tree-space", tree % ("a" * 40, "b" * 64, 1 << 49)))
    r = hub.pull(name, home)
    yield r.code == 1 and "no space left" in r.err and len(r.lines) == 1 and not leftovers(home), "no space: told before anything is loaded", r
    row = '{"type":"file","oid":"%s","size":%d,"path":"%s","lfs":{"oid":"%s","size":%d,"pointerSize":1}}'
    sparse = os.path.join(repo_folder(home, name), "blobs", "b" * 64)
    os.makedirs(os.path.dirname(sparse), exist_ok=True)
    with open(sparse, "wb") as f:
        f.truncate(1 << 40)  # more than the disk has: its bytes are never asked for
    rows = [row % ("a" * 40, 1 << 40, n, "b" * 64, 1 << 40) for n in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")]
    hub.scenario(name, tree_file=hub.file("tree-space", "[%s]" % ",".join(rows)))
    r = hub.pull(name, home, "--dry-run", "--json")
    told = json.loads(r.out) if r.code == 0 else {}
    yield told.get("missing_bytes") == 0, "--dry-run: what another name has brought is not missing", r
    r = hub.pull(name, home)
    yield "no space left" not in r.err, "what is here already needs no space", r
    os.unlink(sparse)
    small = os.path.join(hub.top, "small")
    os.makedirs(small)
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], stderr=subprocess.DEVNULL, check=False).returncode == 0
    if not mounted:
        yield None, "the disk fills up", "no file system of 8 MiB can be mounted here"
        return
    try:
        full = hub.repo("test/full", model_files(1, 5 * MIB), throttle=MIB)
        p = subprocess.Popen([program.IVCHAT, "pull", full, "--connections", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=program.environment(hub.environment(small)))
        wait_for(lambda: leftovers(small))
        with open(os.path.join(small, "other"), "wb", buffering=0) as f:  # or closing it would fail with what did not fit
            try:
                while f.write(bytes(MIB)):
                    pass
            except OSError:
                pass
        out, err = p.communicate(timeout=30)
        yield p.returncode == 1 and b"No space left on device" in err and len(err.splitlines()) == 1, "the disk fills up", "%s %s" % (p.returncode, err)
        yield not sums(snapshot(small, full)).get("model-00001-of-00001.safetensors"), "the disk fills up: nothing half-named"
        os.unlink(os.path.join(small, "other"))
        r = hub.pull(full, small)
        yield r.code == 0 and not complete(small, full), "and with space again it goes on", r
    finally:
        subprocess.run(["umount", small], check=False)


def reads(p, path):
    """Has a process a file open, or has it ended? While it is being started its files may not be listed."""
    try:
        names = os.listdir("/proc/%d/fd" % p.pid)
    except OSError:
        names = []
    return p.poll() is not None or any(os.path.realpath("/proc/%d/fd/%s" % (p.pid, n)) == path for n in names)


@case
def local_dir():
    name, home = hub.repo("test/local", SMALL), hub.cache("local")
    folder = os.path.join(hub.top, "here", "model")
    r = hub.pull(name, home, "--local-dir", folder)
    names = wanted(SMALL)
    yield r.code == 0 and r.out == folder + "\n" and {n: s for n, s in sums(folder).items() if n in SMALL} == expected(SMALL, names), "--local-dir", r
    with open(os.path.join(folder, ".cache/huggingface/download/config.json.metadata"), encoding="utf-8") as f:
        said = f.read().splitlines()
    yield said[0] == hubrig.COMMIT and len(said[1]) == 40 and abs(float(said[2]) - time.time()) < 100, "its metadata", said
    r = hub.pull(name, home, "--local-dir", folder, "--json")
    yield r.code == 0 and fetched(r) == 0, "--local-dir again: nothing to do", r
    with open(os.path.join(folder, "config.json"), "wb") as f:
        f.write(b"changed")
    os.unlink(os.path.join(folder, ".cache/huggingface/download/model-00001-of-00002.safetensors.metadata"))
    r = hub.pull(name, home, "--local-dir", folder, "--json")
    yield (r.code == 0 and fetched(r) == len(SMALL["config.json"]) and sums(folder)["config.json"] == expected(SMALL, ["config.json"])["config.json"]), "what was changed is loaded again, what is right is recognised", r
    r = hub.pull(name, home)
    yield r.code == 0 and not complete(home, name), "and into the cache", r
    r = hub.pull(name, home, "--local-dir", folder + "2", "--json")
    yield r.code == 0 and fetched(r) == 0 and {n: s for n, s in sums(folder + "2").items() if n in SMALL} == expected(SMALL, names), "--local-dir from the cache", r
    shard = "model-00001-of-00002.safetensors"
    blob = os.path.realpath(os.path.join(snapshot(home, name), shard))
    with open(blob, "r+b") as f:
        f.write(b"damaged")
    r = hub.pull(name, home, "--local-dir", folder + "3", "--json")
    yield r.code == 0 and fetched(r) == len(SMALL[shard]) and {n: s for n, s in sums(folder + "3").items() if n in SMALL} == expected(SMALL, names), "--local-dir: a damaged blob is not copied", r
    huge, row = hub.repo("test/huge", {"model.safetensors": b"x" * 5000}), '[{"type":"file","oid":"%s","size":%d,"path":"model.safetensors"}]'
    path = os.path.join(hub.root, "test/huge/model.safetensors")
    os.truncate(path, 3 << 30)
    hub.scenario(huge, tree_file=hub.file("tree-huge-file", row % ("a" * 40, 3 << 30)), large=0, oid="a" * 40)
    for key in ("there", "in the cache"):
        into = os.path.join(hub.top, "here", key)
        sparse = os.path.join(into, "model.safetensors") if key == "there" else os.path.join(repo_folder(home, huge), "blobs", "a" * 40)
        os.makedirs(os.path.dirname(sparse), exist_ok=True)
        for _ in range(3):  # where the machine is busy the check may end before the signal comes; the wrong file is then gone
            with open(sparse, "wb") as f:
                f.truncate(3 << 30)
            p = subprocess.Popen([program.IVCHAT, "pull", huge, "--local-dir", into], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=program.environment(hub.environment(home)))
            wait_for(lambda p=p, sparse=sparse: reads(p, sparse))
            begun = time.monotonic()
            p.send_signal(signal.SIGTERM)
            code, took = p.wait(), time.monotonic() - begun
            if os.path.exists(sparse):
                break
        yield code == 143 and took < 1 and os.path.exists(sparse), "SIGTERM while a file is checked: " + key, "%s after %.1f s" % (code, took)
        os.unlink(sparse)


@case
def base_model():
    files = dict(SMALL, **{"config.json": b'{"model_config":{"llm":{"pretrained_llm_path":"base/lm"}}}'})
    name, home = hub.repo("test/based", files), hub.cache("based")
    r = hub.pull(name, home)
    yield r.code == 0 and "config of the base model not loaded" in r.err, "a base model that cannot be had is a warning", r
    hub.repo("base/lm", model_files(1, 5000))
    r = hub.pull(name, home)
    yield r.code == 0 and set(sums(snapshot(home, "base/lm"))) == {"config.json"}, "the base model's config comes along", r
    before = len(hub.requests(name) + hub.requests("base/lm"))
    hub.repo("base/lm", model_files(1, 5000), commit="2" * 40)
    r = hub.pull(name, home)
    asked = hub.requests(name) + hub.requests("base/lm")
    yield r.code == 0 and len(asked) - before == 2, "what is complete costs two requests, with a base model too", asked
    main = os.path.join(repo_folder(home, "base/lm"), "refs", "main")
    os.unlink(os.path.join(snapshot(home, "base/lm"), "config.json"))
    hub.scenario("base/lm", info_file=hub.file("info-base", '{"sha":"%s"}' % ("2" * 40)))
    r = hub.pull(name, home)
    with open(main, encoding="utf-8") as f:
        yield r.code == 0 and f.read() == hubrig.COMMIT, "the base model's main is not moved", r
    hub.scenario("base/lm")
    r = hub.pull(name, home)
    yield r.code == 0 and set(sums(snapshot(home, "base/lm"))) == {"config.json"}, "its config is that of the commit that is here", r
    other = hub.cache("based-stop")
    hub.scenario("base/lm", fail_info="429 -1 5")
    begun = time.monotonic()
    r = hub.pull(name, other)
    yield r.code == 0 and time.monotonic() - begun < 4 and "HTTP 429" in r.err, "the base model is not waited for", r
    hub.scenario("base/lm", slow_head=3000)
    before = len(hub.requests("api/models/base/lm/tree"))
    p = subprocess.Popen([program.IVCHAT, "pull", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=program.environment(hub.environment(other)))
    wait_for(lambda: len(hub.requests("api/models/base/lm/tree")) > before)
    p.send_signal(signal.SIGTERM)
    yield p.wait() == 143, "SIGTERM while the base model's config is loaded", p.returncode


@case
def use_and_remove():
    home = hub.cache("use")
    env = hub.environment(home)
    golden = program.model()
    if golden is None:
        yield None, "-m ORG/REPO", program.NO_MODEL
    else:
        files = {n: open(os.path.join(golden, n), "rb").read() for n in os.listdir(golden)
                 if n.endswith((".json", ".model", ".safetensors", ".txt"))}
        name = hub.repo("test/tiny", files)
        r = program.run("info", "-m", name, env=env)
        yield r.code == 3 and "`ivchat pull test/tiny` downloads it" in r.err, "-m of what is not there names the command", r
        r = hub.pull(name, home)
        said = program.run("info", "-m", name, "--json", env=dict(env, HF_ENDPOINT="http://127.0.0.1:9"))
        yield r.code == 0 and said.code == 0 and json.loads(said.out)["name"] == "tiny", "-m ORG/REPO opens the snapshot, without network", said
        at = program.run("tokenize", "-m", name + "@main", stdin='"hello"\n', env=env)
        local = program.run("tokenize", "-m", golden, stdin='"hello"\n')
        yield at.code == 0 and at.out == local.out, "-m ORG/REPO@REVISION", at
        r = program.run("info", "-m", name + "@gone", env=env)
        yield r.code == 3 and "`ivchat pull test/tiny@gone`" in r.err, "-m of another revision", r
        plain_file = os.path.join(hub.top, "here", "model.file")
        os.makedirs(os.path.dirname(plain_file), exist_ok=True)
        with open(plain_file, "wb"):
            pass
        r = program.run("info", "-m", "here/model.file", env=env, cwd=hub.top)
        yield r.code in (1, 3) and "ivchat pull" not in r.err, "-m of a file is no name of the hub", r
        shard = sorted(n for n in files if n.endswith(".safetensors"))[-1]
        os.unlink(os.path.realpath(os.path.join(snapshot(home, name), shard)))
        r = program.run("info", "-m", name, env=env)
        yield r.code == 3 and shard in r.err and "only partly downloaded" in r.err, "a lost blob is noticed", r
        r = program.run("tokenize", "-m", name, stdin='"hello"\n', env=env)
        yield r.code == 0, "tokenize needs no weights", r
    two = dict(SMALL)
    name = hub.repo("test/two", two, commit="1" * 40)
    hub.pull(name, home)
    two["config.json"] = b'{"model_type":"other"}\n'
    hub.repo(name, two, commit="2" * 40)
    hub.pull(name, home)
    r = program.run("list", "--json", env=env)
    told = {m["repo"]: m for m in json.loads(r.out)["models"]}
    revisions = told["test/two"]["revisions"]
    yield ([v["commit"][:1] for v in revisions] == ["1", "2"] and [v["refs"] for v in revisions] == ["", "main"] and
           all(v["usable"] for v in revisions)), "list tells revisions", r
    yield told["test/two"]["bytes"] < sum(v["bytes"] for v in revisions) + 5 * 4096, "shared files count once", r
    r = program.run("rm", name + "@" + "1" * 40, "--dry-run", env=env)
    yield r.code == 0 and "would be freed" in r.err and os.path.isdir(snapshot(home, name, "1" * 40)), "rm --dry-run", r
    r = program.run("rm", name + "@" + "1" * 40, env=env)
    got = sums(snapshot(home, name, "2" * 40))
    yield (r.code == 0 and got == expected(two, wanted(two)) and not os.path.exists(snapshot(home, name, "1" * 40)) and
           len(os.listdir(os.path.join(repo_folder(home, name), "blobs"))) == len(wanted(two))), "rm of a revision leaves what the other uses", r
    outside = os.path.join(hub.top, "precious")
    with open(outside, "w", encoding="utf-8") as f:
        f.write("x")
    os.symlink(outside, os.path.join(snapshot(home, name, "2" * 40), "link"))
    os.symlink(hub.root, os.path.join(snapshot(home, name, "2" * 40), "folder"))
    r = program.run("rm", name, env=env)
    yield (r.code == 0 and not os.path.exists(repo_folder(home, name)) and os.path.exists(outside) and os.path.isdir(hub.root)), "rm removes all of one and nothing elsewhere", r
    r = program.run("rm", name, env=env)
    yield r.code == 3 and "not in the cache" in r.err, "rm of what is not there", r
    r = program.run("list", env=dict(env, HF_HOME="/nonexistent"))
    yield r.code == 0 and r.out == "", "list of no cache", r
    busy = hub.repo("test/busy", model_files(1, 20 * MIB), throttle=MIB)
    p = subprocess.Popen([program.IVCHAT, "pull", busy], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=program.environment(env))
    wait_for(lambda: leftovers(repo_folder(home, busy)) and len(hub.requests(busy)) > 5)
    r = program.run("rm", busy, env=env)
    yield r.code == 1 and "another process is downloading" in r.err, "rm during a download", r
    p.send_signal(signal.SIGTERM)
    p.wait()
    slow = hub.repo("test/slow", SMALL, slow_head=500)
    folder = repo_folder(home, slow)
    for key in ("ivchat rm", "a hand"):
        p = subprocess.Popen([program.IVCHAT, "pull", slow, "--connections", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=program.environment(env))
        wait_for(lambda: os.path.isdir(os.path.join(folder, "snapshots")) and sums(snapshot(home, slow)) and not leftovers(folder))
        if key == "ivchat rm":
            r = program.run("rm", slow, env=env)
            yield r.code == 1 and "another process is downloading" in r.err, "rm between two files of a download", r
            with open(os.path.join(home, "hub", ".locks", "models--test--slow", "of-a-killed.tmp"), "wb"):
                pass
        else:
            os.unlink(os.path.join(snapshot(home, slow), "config.json"))
        out, err = p.communicate(timeout=60)
        if key == "ivchat rm":
            yield p.returncode == 0 and sums(snapshot(home, slow)) == expected(SMALL, wanted(SMALL)), "and the download is whole", err
            r = program.run("rm", slow, env=env)
            yield r.code == 0 and not [n for n in leftovers(os.path.join(home, "hub", ".locks", "models--test--slow"))], "rm: what killed processes left goes along", r
        else:
            yield (p.returncode == 1 and b"was removed by another process" in err and not os.path.exists(os.path.join(folder, "refs", "main"))), "a file taken away during a download: no ref", err


@case
def removal_and_links():
    """A cache that others have written: rm follows no link to what it removes and keeps what any link leads to."""
    home = hub.cache("links")
    env = hub.environment(home)
    outside = os.path.join(hub.top, "outside")
    os.makedirs(os.path.join(outside, "deeper"))
    precious = os.path.join(outside, "deeper", "file")
    with open(precious, "w", encoding="utf-8") as f:
        f.write("x")
    name = hub.repo("test/links", SMALL)
    folder = repo_folder(home, name)
    for part in ("", "refs", "snapshots", "blobs"):
        hub.pull(name, home)
        path = os.path.join(folder, part).rstrip("/")
        os.rename(path, path + ".away")
        os.symlink(outside, path)
        for text in (name, name + "@" + hubrig.COMMIT):
            if part in ("", "snapshots"):
                os.makedirs(os.path.join(outside, "snapshots" if not part else "", hubrig.COMMIT), exist_ok=True)
            r = program.run("rm", text, env=env)
            yield (r.code == 1 and "is a link to elsewhere" in r.err and len(r.lines) == 1 and os.path.exists(precious)), "rm: %s is a link" % (part or "the repository"), r
        os.unlink(path)
        os.rename(path + ".away", path)
    at = snapshot(home, name)
    for text in (name + "@" + hubrig.COMMIT, name):
        hub.pull(name, home)
        os.rename(at, os.path.join(hub.top, "away-" + str(len(text))))
        os.symlink(outside, at)
        r = program.run("rm", text, env=env)
        yield r.code == 0 and os.path.exists(precious) and not os.path.lexists(at), "rm: a snapshot that is a link goes as a name", r
    files = dict(SMALL)
    two = hub.repo("test/forms", files, commit="1" * 40)
    hub.pull(two, home)
    files["config.json"] = b'{"model_type":"other"}\n'
    hub.repo(two, files, commit="2" * 40)
    hub.pull(two, home)
    kept = snapshot(home, two, "2" * 40)
    for n in os.listdir(kept):
        link = os.path.join(kept, n)
        blob = os.path.realpath(link)
        os.unlink(link)
        os.symlink(blob if n.endswith(".json") else "../../snapshots/../blobs/" + os.path.basename(blob), link)
    os.symlink("itself", os.path.join(kept, "itself"))
    r = program.run("rm", two + "@" + "1" * 40, env=env)
    yield r.code == 1 and "not known what it leads to" in r.err and os.path.isdir(snapshot(home, two, "1" * 40)), "rm: a link that is not understood keeps everything", r
    os.unlink(os.path.join(kept, "itself"))
    r = program.run("rm", two + "@" + "1" * 40, env=env)
    yield (r.code == 0 and sums(kept) == expected(files, wanted(files)) and
           len(os.listdir(os.path.join(repo_folder(home, two), "blobs"))) == len(wanted(files))), "rm: links of any form keep their blobs", r


@case
def bars():
    import pty
    name, home = hub.repo("test/bars", model_files(2, 2 * MIB), throttle=MIB), hub.cache("bars")
    for quiet in (False, True):
        mine, theirs = pty.openpty()
        env = hub.environment(home + str(quiet), TERM="xterm", **({"HF_HUB_DISABLE_PROGRESS_BARS": "1"} if quiet else {}))
        p = subprocess.Popen([program.IVCHAT, "pull", name], stdout=subprocess.DEVNULL, stderr=theirs, env=program.environment(env))
        os.close(theirs)
        seen = b""
        try:
            while True:
                piece = os.read(mine, 65536)
                if not piece:
                    break
                seen += piece
        except OSError:
            pass  # the terminal is gone
        p.wait()
        os.close(mine)
        drawn = b"all 6 files" in seen and b"01-of-00002.safetensors" in seen and b"ETA" in seen
        yield p.returncode == 0 and drawn != quiet, "a bar for each file and one for all" if not quiet else "HF_HUB_DISABLE_PROGRESS_BARS", seen[-600:]
    r = hub.pull(name, hub.cache("bars-json"), "--log-json", "--progress", "always")
    lines = [json.loads(x) for x in r.lines]
    yield r.code == 0 and any(x.get("stage") == "pull" and x["total"] for x in lines), "--log-json: progress", r


@case
def environment():
    name = hub.repo("test/env", SMALL)
    top = hub.cache("env")
    r = hub.pull(name, top, HF_HUB_CACHE=os.path.join(top, "elsewhere"))
    yield r.code == 0 and r.out.startswith(os.path.join(top, "elsewhere", "models--test--env")), "HF_HUB_CACHE", r
    r = hub.pull(name, "", XDG_CACHE_HOME=os.path.join(top, "xdg"))
    yield r.code == 0 and r.out.startswith(os.path.join(top, "xdg", "huggingface", "hub")), "XDG_CACHE_HOME", r
    r = hub.pull(name, "", HOME=os.path.join(top, "home"))
    yield r.code == 0 and r.out.startswith(os.path.join(top, "home", ".cache", "huggingface", "hub")), "HOME", r
    for variable, value in (("HF_ENDPOINT", "ftp://x"), ("HF_ENDPOINT", "nonsense"), ("HF_HUB_DOWNLOAD_TIMEOUT", "-1")):
        r = hub.pull(name, top, **{variable: value})
        yield r.code == 2 and variable in r.err and len(r.lines) == 1, "%s=%s" % (variable, value), r
    r = hub.pull(name, top, HF_ENDPOINT="http://127.0.0.1:9", IVCHAT_RETRIES="0")
    yield r.code == 6 and "127.0.0.1:9" in r.err, "nobody listens", r
    r = program.run("pull")
    yield r.code == 2 and "ivchat pull ORG/REPO" in r.err, "no name", r
    r = program.run("pull", "a/b", "c/d")
    yield r.code == 2 and 'unexpected argument "c/d"' in r.err, "two names", r


def main():
    only = sys.argv[1:]
    chosen = [c for c in CASES if not only or c.__name__ in only]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = [(c, pool.submit(lambda f=c: list(f()))) for c in chosen]
        for c, run in runs:
            try:
                for good, name, *note in run.result():
                    if good is None:
                        tap.skip(name, note[0])
                    else:
                        tap.ok(good, name, note[0] if note else "")
            except Exception as error:  # a test that broke is a failed test
                tap.ok(False, "%s ran to its end" % c.__name__, "".join(traceback.format_exception(error)))
    hub.close()
    tap.done()


main()

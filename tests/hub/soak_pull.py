#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is too long for every run of the tests: kill -9 at many moments, the hub's own client on the same
cache, and speed beside it and beside curl. `make hub-soak`; prints a line a check and a table of speeds.

  soak_pull.py [--kills N] [--speed-mib N] [--python PATH] [--only kills|together|client|speed]

PATH is a Python that has huggingface_hub; without one the client's part says SKIP.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "apps"))
import hubrig  # noqa: E402
import program  # noqa: E402
from hubrig import MIB, Hub, expected, leftovers, model_files, snapshot, sums, wanted  # noqa: E402

tap = program.Tap()


def bodies(hub, name):
    return [r for r in hub.requests(name + "/") if r["method"] == "GET" and r["status"] in (200, 206) and "/api/" not in r["path"]]


def kills(hub, n):
    """Each moment with a cache of its own: pull, kill -9, pull again without a limit on speed."""
    files, streams = model_files(4, 6 * MIB + 3), 4
    want = expected(files, wanted(files))
    total = sum(len(files[x]) for x in want)
    chance, late, worst, bad = random.Random(1), 0, 0, []
    for i in range(n):
        name = hub.repo("soak/k%d" % i, files, throttle=4 * MIB)
        home = hub.cache("k%d" % i)
        p = subprocess.Popen([program.IVCHAT, "pull", name, "--connections", str(streams)], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=program.environment(hub.environment(home)))
        time.sleep(chance.uniform(0.01, 1.9))
        late += p.poll() is not None
        p.kill()
        p.wait()
        named = sums(snapshot(home, name))
        torn = [x for x, s in named.items() if s != want[x]]
        hub.scenario(name)
        r = hub.pull(name, home)
        got = sums(snapshot(home, name))
        time.sleep(0.2)  # until the server has seen the end of the killed connections
        twice = sum(q["sent"] for q in bodies(hub, name)) - total
        worst = max(worst, twice)
        if r.code != 0 or got != want or torn or leftovers(home) or twice > streams * (MIB + MIB // 2):
            bad.append("%d: exit %d, torn %s, left %s, twice %d\n%s" % (i, r.code, torn, leftovers(home), twice, r.err))
        shutil.rmtree(home)
        shutil.rmtree(os.path.join(hub.root, name))
    print("# %d kills, %d of them after the end; most bytes sent twice: %d (%d streams, chunks of %d)" % (n, late, worst, streams, MIB))
    tap.ok(not bad and late < n // 2, "kill -9 at %d moments: the next run finishes, no byte twice beyond a chunk a stream" % n, "\n".join(bad))


def together(hub, n):
    files = model_files(3, 4 * MIB)
    total = sum(len(files[x]) for x in wanted(files))
    bad = []
    for i in range(n):
        name, home = hub.repo("soak/t%d" % i, files, throttle=8 * MIB), hub.cache("t%d" % i)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(lambda _: hub.pull(name, home, "--json"), range(4)))
        sent = sum(q["sent"] for q in bodies(hub, name))
        if any(r.code for r in runs) or sent != total or sums(snapshot(home, name)) != expected(files, wanted(files)):
            bad.append("%d: %s, %d sent of %d" % (i, [str(r) for r in runs], sent, total))
        shutil.rmtree(home)
    tap.ok(not bad, "four pulls at once, %d times: one download, all succeed" % n, "\n".join(bad))


CLIENT = r"""
import json, sys, os
from huggingface_hub import snapshot_download, scan_cache_dir, __version__
what, repo = sys.argv[1:3]
patterns = json.loads(os.environ["PATTERNS"])
if what == "version":
    print(__version__)
elif what == "scan":
    c = scan_cache_dir()
    print(json.dumps({"warnings": [str(w) for w in c.warnings], "repos": {r.repo_id: {"bytes": r.size_on_disk, "refs": sorted(r.refs), "files": r.nb_files} for r in c.repos}}))
else:
    print(snapshot_download(repo, allow_patterns=patterns, local_files_only=what == "offline", local_dir=os.environ.get("LOCAL") or None))
"""


def client(hub, python):
    files = model_files(2, 3 * MIB)
    want = expected(files, wanted(files))

    def theirs(what, name, home, local=""):
        env = program.environment(hub.environment(home, PATTERNS=json.dumps(sorted(want)), LOCAL=local, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1"))
        done = subprocess.run([python, "-c", CLIENT, what, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, check=False)
        return done.returncode, done.stdout.decode().strip(), done.stderr.decode()[-1500:]

    code, version, err = theirs("version", "a/b", hub.cache("version"))
    if code != 0:
        tap.skip("the hub's own client", "huggingface_hub is not installed for " + python)
        return
    print("# huggingface_hub " + version)
    name, home = hub.repo("soak/ours", files), hub.cache("ours")
    r = hub.pull(name, home)
    got = theirs("offline", name, home)
    tap.ok(r.code == 0 and got[:2] == (0, snapshot(home, name)), "what we pulled, the client finds offline", got)
    before = len(bodies(hub, name))
    got = theirs("online", name, home)
    tap.ok(got[:2] == (0, snapshot(home, name)) and len(bodies(hub, name)) == before, "and asks for no byte of it online", got)
    code, said, err = theirs("scan", name, home)
    seen = json.loads(said) if code == 0 else {}
    tap.ok(code == 0 and not seen["warnings"] and seen["repos"][name]["refs"] == ["main"] and seen["repos"][name]["files"] == len(want),
           "its scan of the cache has nothing to say against it", said + err)

    name, home = hub.repo("soak/theirs", files), hub.cache("theirs")
    got = theirs("online", name, home)
    before = len(bodies(hub, name))
    r = hub.pull(name, home, "--json")
    tap.ok(got[0] == 0 and r.code == 0 and json.loads(r.out)["fetched_bytes"] == 0 and len(bodies(hub, name)) == before and
           json.loads(r.out)["folder"] == got[1], "what the client loaded, we take as it is", "%s\n%s" % (got, r))
    r = program.run("list", "--json", env=hub.environment(home))
    tap.ok(r.code == 0 and [m["revisions"][0]["usable"] for m in json.loads(r.out)["models"] if m["repo"] == name] == [True], "list sees it", r)
    r = program.run("rm", name, env=hub.environment(home))
    code, said, err = theirs("scan", name, home)
    tap.ok(r.code == 0 and code == 0 and name not in json.loads(said)["repos"] and not json.loads(said)["warnings"], "rm leaves a cache that the client reads", said + err)

    name, home = hub.repo("soak/local", files), hub.cache("local")
    r = hub.pull(name, home, "--local-dir", home + "-dir")
    before = len(bodies(hub, name))
    got = theirs("online", name, home, home + "-dir")
    tap.ok(r.code == 0 and got[0] == 0 and len(bodies(hub, name)) == before, "--local-dir: the client has nothing to load", got)
    got = theirs("online", name, home + "2", home + "-dir2")
    before = len(bodies(hub, name))
    r = hub.pull(name, home + "2", "--local-dir", home + "-dir2", "--json")
    tap.ok(got[0] == 0 and r.code == 0 and json.loads(r.out)["fetched_bytes"] == 0 and len(bodies(hub, name)) == before, "and the other way round", r)

    name, home = hub.repo("soak/mixed", files, throttle=2 * MIB), hub.cache("mixed")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        a, b = pool.submit(lambda: hub.pull(name, home)), pool.submit(lambda: theirs("online", name, home))
    sent = sum(q["sent"] for q in bodies(hub, name))
    total = sum(len(files[x]) for x in want)
    tap.ok(a.result().code == 0 and b.result()[0] == 0 and sums(snapshot(home, name)) == want and sent == total,
           "both at once on one cache: one download", "%s\n%s\n%d sent of %d" % (a.result(), b.result(), sent, total))


def sha256_of(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            h.update(piece)
    return h.hexdigest()


def speed(python, mib):
    """Two files of the size; each way has to end with the files on disk and their SHA-256 compared."""
    top = "/dev/shm" if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 8 * mib * MIB else None
    hub = Hub(top=tempfile.mkdtemp(prefix="ivchat-hub-", dir=top))
    block = random.Random(7).randbytes(MIB)
    name = hub.repo("soak/speed", {"config.json": b"{}"})
    names = ["model-%05d-of-00002.safetensors" % i for i in (1, 2)]
    for i, n in enumerate(names):
        with open(os.path.join(hub.root, name, n), "wb") as f:
            for k in range(mib):
                f.write(block[k + i:] + block[:k + i])
    want = {n: sha256_of(os.path.join(hub.root, name, n)) for n in names}
    hub.pull(name, hub.cache("warm"), "--dry-run")
    url = "http://localhost:%d/store/%s/" % (hub.store_port, name)

    def ours(home):
        return subprocess.run([program.IVCHAT, "pull", name, "--include", "*.safetensors", "-q"], stdout=subprocess.DEVNULL,
                              env=program.environment(hub.environment(home)), check=False).returncode == 0

    def curl(home):
        os.makedirs(home)
        sums_of = "".join("%s  %s\n" % (want[n], os.path.join(home, n)) for n in names)
        done = subprocess.run(["curl", "-sS", "--no-progress-meter", "--parallel"] + [x for n in names for x in ("-o", os.path.join(home, n), url + n)], check=False)
        checked = subprocess.run(["sha256sum", "-c", "--quiet"], input=sums_of.encode(), check=False)
        return done.returncode == 0 and checked.returncode == 0

    def theirs(home):
        code = ("import hashlib,os,sys\nfrom huggingface_hub import snapshot_download\n"
                "d=snapshot_download(%r, allow_patterns='*.safetensors')\n"
                "for n,s in %r.items():\n    assert hashlib.file_digest(open(os.path.join(d,n),'rb'),'sha256').hexdigest()==s\n" % (name, want))
        env = program.environment(hub.environment(home, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1"))
        return subprocess.run([python, "-c", code], env=env, check=False, stderr=subprocess.DEVNULL).returncode == 0

    ways = {"ivchat pull": ours, "curl, then sha256sum": curl, "huggingface_hub, then hashlib": theirs}
    best = {}
    print("# 2 x %d MiB on loopback, hashing included, seconds (best and all of 3)" % mib)
    times, work = {w: [] for w in ways}, {w: [] for w in ways}
    for i in range(3):
        for way, run in ways.items():
            home = hub.cache("s")
            begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            good = run(home)
            took, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
            shutil.rmtree(home, ignore_errors=True)
            if good:
                times[way].append(took)
                work[way].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for way, took in times.items():
        if took:
            best[way] = min(took)
            print("# %-32s %6.2f s  %6.0f MB/s  %5.2f s of processor   %s" % (
                way, min(took), 2e-6 * mib * MIB / min(took), min(work[way]), " ".join("%.2f" % t for t in took)), flush=True)
    hub.close()
    others = [b for w, b in best.items() if w != "ivchat pull"]
    tap.ok("ivchat pull" in best and others and best["ivchat pull"] <= min(others), "at least as fast as the faster of curl and the client", best)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--speed-mib", type=int, default=512)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--only", action="append", choices=["kills", "together", "client", "speed"])
    o = parser.parse_args()
    hubrig.clean_environment()
    if not hubrig.available():
        tap.skip("soak of pull", hubrig.NO_SERVER)
        tap.done()
    chosen = o.only or ["kills", "together", "client", "speed"]
    hub = Hub()
    if "kills" in chosen:
        kills(hub, o.kills)
    if "together" in chosen:
        together(hub, 10)
    if "client" in chosen:
        client(hub, o.python)
    hub.close()
    if "speed" in chosen:
        speed(o.python, o.speed_mib)
    tap.done()


main()

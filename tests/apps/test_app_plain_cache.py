#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The hub's cache without links, as its client keeps it where none can be made (and as `cp -rL` leaves it): `list`, `rm`,
`-m`. What the cache is with links, and how it is filled, is in test_app_pull.py."""
import json
import os
import shutil

from program import ROOT, Tap, path, run

tap = Tap()
MODEL = os.path.join(ROOT, "tests", "fixtures", "tiny-model")
COMMIT, OTHER = "1" * 40, "2" * 40
ENV = {"HF_HOME": path("home"), "HF_HUB_CACHE": "", "HF_HUB_OFFLINE": "1"}


def repo(name):
    return path("home", "hub", "models--org--" + name)


def disk(folder):
    return sum(512 * os.lstat(os.path.join(at, f)).st_blocks for at, _, files in os.walk(folder) for f in files)


os.makedirs(os.path.join(repo("plain"), "refs"))
os.makedirs(os.path.join(repo("plain"), "blobs"))
with open(os.path.join(repo("plain"), "refs", "main"), "w", encoding="utf-8") as f:
    f.write(COMMIT)
for commit in (COMMIT, OTHER):
    shutil.copytree(MODEL, os.path.join(repo("plain"), "snapshots", commit))

listed = run("list", "--json", env=ENV)
told = json.loads(listed.out)["models"][0] if listed.code == 0 else {}
size = disk(os.path.join(repo("plain"), "snapshots"))
tap.ok(size > 0 and told.get("bytes") == size and len(told["revisions"]) == 2 and all(r["usable"] for r in told["revisions"]),
       "list: the files of the snapshots are what is on disk", listed)
r = run("chat", "-m", "org/plain", "-p", "x", "-n", "2", "-q", env=ENV)
tap.ok(r.code == 0 and r.out.strip() != "", "-m finds it", r)
dry = run("rm", "org/plain@" + OTHER, "--dry-run", env=ENV)
r = run("rm", "org/plain@" + OTHER, env=ENV)
tap.ok(dry.code == r.code == 0 and dry.err.replace("would be freed", "freed") == r.err and ": 0 B" not in r.err and
       os.listdir(os.path.join(repo("plain"), "snapshots")) == [COMMIT], "rm of one snapshot tells what it frees", (dry, r))
half = json.loads(run("list", "--json", env=ENV).out)["models"][0]["bytes"]
tap.ok(half == disk(os.path.join(repo("plain"), "snapshots")) == size // 2, "half is left", (size, half))
r = run("rm", "org/plain", env=ENV)
tap.ok(r.code == 0 and ": 0 B" not in r.err and not os.path.exists(repo("plain")), "rm of all", r)

# a repository of GGUF pairs has no config.json, and pull would not make one
os.makedirs(os.path.join(repo("pair"), "refs"))
os.makedirs(os.path.join(repo("pair"), "snapshots", COMMIT))
with open(os.path.join(repo("pair"), "refs", "main"), "w", encoding="utf-8") as f:
    f.write(COMMIT)
for name in ("NAME-Q8_0.gguf", "mmproj-NAME-F16.gguf"):
    with open(os.path.join(repo("pair"), "snapshots", COMMIT, name), "w", encoding="utf-8") as f:
        f.write("GGUF")
r = run("chat", "-m", "org/pair", "-p", "x", env=ENV)
tap.ok(r.code == 3 and len(r.lines) == 1 and "org/pair:Q8_0" in r.err and "pull" not in r.err, "-m of GGUF files without a type names one", r)
tap.done()

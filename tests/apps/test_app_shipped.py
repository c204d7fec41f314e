#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No -m: the small model is found beside the program, in the source tree, installed, moved, through links; and
what is said when it is nowhere. A copy of the program stands in folders made here, with the test model in the
place of the shipped one."""
import json
import os
import shutil
import subprocess

import program
from program import IVCHAT, Tap, environment, path

tap = Tap()
FIXTURE = os.path.join(program.ROOT, "tests", "fixtures", "tiny-model")


def put_model(folder):
    shutil.copytree(FIXTURE, os.path.join(folder, "ivchat-small"))


def put_program(folder):
    os.makedirs(folder)
    return shutil.copy(IVCHAT, os.path.join(folder, "ivchat"))


def call(exe, *args, env=None, cwd=None, executable=None):
    done = subprocess.run([exe, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment(env), executable=executable, cwd=cwd, check=False, timeout=120)
    return program.Result(done.returncode, done.stdout.decode("utf-8", "replace"),
                          done.stderr.decode("utf-8", "replace"))


def found(name, exe, **how):
    r = call(exe, "info", "--json", **how)
    got = json.loads(r.out) if r.code == 0 else {}
    tap.ok(r.code == 0 and got["name"] == "ivchat-small" and got["llm"]["vocabulary"] == 524, name, r)


def says_where(name, folder):
    """The line of a run that used the model in folder."""
    r = call(name, "tokenize", "-v")
    return r.code == 0 and "no model given: %s/ivchat-small" % folder in r.lines


# ---- the source tree: build/ivchat and models/
tree = path("a tree")
in_tree = put_program(os.path.join(tree, "build"))
r = call(in_tree, "chat", "-p", "x")
if r.code == 0:
    tap.skip("nowhere", "ivchat is installed where this build looks last")
else:
    tap.ok(r.code == 3 and r.out == "" and len(r.lines) == 1 and "-m DIR or IVCHAT_MODEL" in r.err and
           all(os.path.join(tree, place, "ivchat-small") in r.err for place in ("models", "share/ivchat/models")),
           "nowhere: exit 3, one line with the places and the option", r)
    for verb in (["embed", "--image", "x.png", "-o", "x.npy"], ["tokenize"], ["info"]):
        r = call(in_tree, *verb)
        tap.ok(r.code == 3 and "the small model that ships with ivchat is not in" in r.err, "nowhere: " + verb[0], r)
os.makedirs(os.path.join(tree, "models", "ivchat-small"))
r = call(in_tree, "info")
tap.ok(r.code == 0 or "is not in " + tree in r.err, "a folder without config.json is none", r)
os.rmdir(os.path.join(tree, "models", "ivchat-small"))
put_model(os.path.join(tree, "models"))
found("beside the build folder", in_tree)
found("called by a relative path", "./build/ivchat", cwd=tree)
found("called by another name than its own", "/nowhere/ivchat", executable=in_tree)
tap.ok(says_where(in_tree, os.path.join(tree, "models")), "-v says which model was taken")
r = call(in_tree, "chat", "-q", "--json", "-n", "3", "--ignore-eos", "-p", "What happens?")
tap.ok(r.code == 0 and json.loads(r.out)["model"]["name"] == "ivchat-small" and
       len(json.loads(r.out)["token_ids"]) == 3, "it answers", r)
r = call(in_tree, "info")
tap.ok(r.code == 0 and "licence     MIT" in r.out and "part of ivchat" in r.out and "mistralai" not in r.out,
       "info: its own licence, not that of the releases", r)

# ---- installed
for bin_dir, share in (("prefix/bin", "prefix/share"), ("multiarch/lib/x86_64-linux-gnu", "multiarch/share")):
    exe = put_program(path(bin_dir))
    put_model(path(share, "ivchat", "models"))
    found("installed to " + bin_dir, exe)
moved = path("moved away")
os.rename(path("prefix"), moved)
exe = os.path.join(moved, "bin", "ivchat")
found("the whole prefix moved", exe)
tap.ok(says_where(exe, os.path.join(moved, "share/ivchat/models")), "the moved model is the one taken")
os.makedirs(path("elsewhere", "bin"))
os.symlink(exe, path("elsewhere", "bin", "ivchat"))
found("through a symbolic link", path("elsewhere", "bin", "ivchat"))
os.symlink("ivchat", path("elsewhere", "bin", "iv"))
found("through a link to a link, from the search path", "iv", env={"PATH": path("elsewhere", "bin")})

# ---- the variable
r = call(exe, "info", env={"IVCHAT_MODELS_DIR": path("elsewhere")})
tap.ok(r.code == 3 and r.out == "" and "IVCHAT_MODELS_DIR" in r.err and path("elsewhere") in r.err and
       moved not in r.err, "IVCHAT_MODELS_DIR without a model: an error, no other place", r)
found("IVCHAT_MODELS_DIR", path("elsewhere", "bin", "ivchat"), env={"IVCHAT_MODELS_DIR": os.path.join(tree, "models")})
found("an empty IVCHAT_MODELS_DIR counts as unset", exe, env={"IVCHAT_MODELS_DIR": ""})
r = call(exe, "info", "-m", path("absent"), env={"IVCHAT_MODELS_DIR": os.path.join(tree, "models")})
tap.ok(r.code == 3 and "absent" in r.err and "without -m" not in r.err, "-m wins", r)

# ---- a shipped model that is damaged is no reason to look further
with open(os.path.join(moved, "share/ivchat/models/ivchat-small/config.json"), "w", encoding="utf-8") as f:
    f.write("{")
r = call(exe, "info")
tap.ok(r.code == 3 and len(r.lines) == 1 and "config.json" in r.err and "is not in" not in r.err, "damaged: says what", r)
tap.done()

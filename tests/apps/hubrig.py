# SPDX-License-Identifier: MIT
"""A hub on this machine for the tests of pull, list, rm and -m ORG/REPO: tests/hub/hubserver.c with
repositories made here, scratch caches, and the server's log."""
import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time

import program

SERVER = os.environ.get("IVCHAT_TEST_HUB", os.path.join(program.ROOT, "build", "tests", "hubserver"))
NO_SERVER = "no test hub: libmicrohttpd and gnutls are not installed"
COMMIT = "c" * 40
TOKEN = "hf_secretOfTheTest"
MIB = 1 << 20


def available():
    return os.path.exists(SERVER)


def content(n, seed=0):
    return random.Random(seed).randbytes(n)


def model_files(shards=3, shard_bytes=3 * MIB + 77):
    """A repository that looks like a model; the bytes are noise."""
    names = ["model-%05d-of-%05d.safetensors" % (i + 1, shards) for i in range(shards)]
    files = {n: content(shard_bytes + i, i) for i, n in enumerate(names)}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"t%d" % i: n for i, n in enumerate(names)}}).encode()
    files["config.json"] = b'{"model_type":"none"}\n'
    files["tokenizer.json"] = b"{}"
    files["tokenizer_config.json"] = b"{}\n" * 3
    files["README.md"] = b"# a model\n"
    files[".gitattributes"] = b"*.safetensors filter=lfs\n"
    files["original/consolidated.safetensors"] = content(50000, 99)
    return files


WANTED = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"}


def wanted(files):
    return {n for n in files if n in WANTED or (n.startswith("model-") and n.endswith(".safetensors"))}


class Hub:
    def __init__(self, tls=False, top=None):
        self.top = top or tempfile.mkdtemp(prefix="ivchat-hub-")
        self.root = os.path.join(self.top, "root")
        self.log_path = os.path.join(self.top, "requests.log")
        os.makedirs(self.root, exist_ok=True)
        self.server = subprocess.Popen([SERVER, self.root, self.log_path] + (["--tls"] if tls else []),
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       # ThreadSanitizer does not see the locks inside libmicrohttpd
                                       env=dict(os.environ, TSAN_OPTIONS="report_bugs=0"))
        said = json.loads(self.server.stdout.readline())
        self.certificate = said["certificate"]
        self.port, self.store_port = said["hub"], said["store"]
        self.endpoint = "http%s://127.0.0.1:%d" % ("s" if tls else "", said["hub"])
        self.made = {}

    def close(self):
        self.server.stdin.close()
        self.server.wait(20)
        self.server.stdout.close()
        shutil.rmtree(self.top, ignore_errors=True)

    def repo(self, name, files=None, **scenario):
        """Makes ORG/REPO; keys of the scenario with _ for - (scenario.h)."""
        files = model_files() if files is None else files
        for path, data in files.items():
            full = os.path.join(self.root, name, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as f:
                f.write(data)
        os.makedirs(os.path.join(self.root, name), exist_ok=True)
        self.scenario(name, **scenario)
        self.made[name] = files
        return name

    def scenario(self, name, **scenario):
        with open(os.path.join(self.root, name + ".conf"), "w", encoding="utf-8") as f:
            for key, value in scenario.items():
                f.write("%s %s\n" % (key.replace("_", "-"), int(value) if isinstance(value, bool) else value))

    def file(self, name, text):
        path = os.path.join(self.top, name)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return path

    def requests(self, name=""):
        """Log entries whose path names the repository."""
        if not os.path.exists(self.log_path):
            return []
        with open(self.log_path, encoding="utf-8") as f:
            return [r for r in map(json.loads, f) if name in r["path"]]

    def cache(self, name):
        return os.path.join(self.top, "home-" + name)

    def environment(self, home, token=None, **extra):
        env = {"HF_HOME": home, "HF_ENDPOINT": self.endpoint, "HF_HUB_DOWNLOAD_TIMEOUT": "2", "IVCHAT_RETRIES": "2"}
        if token:
            env["HF_TOKEN"] = token
        env.update(extra)
        return env

    def pull(self, name, home, *args, token=None, timeout=120, **extra):
        """The program's result; HF_* and proxies of the caller's environment do not reach it."""
        return program.run("pull", name, *args, env=self.environment(home, token, **extra), timeout=timeout)


def clean_environment():
    for key in list(os.environ):
        if key.startswith(("HF_", "HUGGING", "TRANSFORMERS_")) or key.lower().endswith("_proxy") or key in (
                "XDG_CACHE_HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            del os.environ[key]


def repo_folder(home, name):
    return os.path.join(home, "hub", "models--" + name.replace("/", "--"))


def snapshot(home, name, commit=COMMIT):
    return os.path.join(repo_folder(home, name), "snapshots", commit)


def sums(folder):
    """{path: sha256} of the files below, links followed."""
    out = {}
    for top, _, names in os.walk(folder):
        for n in names:
            full = os.path.join(top, n)
            with open(full, "rb") as f:
                out[os.path.relpath(full, folder)] = hashlib.sha256(f.read()).hexdigest()
    return out


def expected(files, names):
    return {n: hashlib.sha256(files[n]).hexdigest() for n in names}


def wait_for(fact, seconds=60):
    """Looks every 10 ms until fact() is true; its value."""
    end = time.monotonic() + seconds
    while not fact() and time.monotonic() < end:
        time.sleep(0.01)
    return fact()


def leftovers(home):
    """Files in the making, and temporary names, anywhere in the cache."""
    return sorted(os.path.join(top, n) for top, _, names in os.walk(home) for n in names
                  if n.endswith((".incomplete", ".tmp")))

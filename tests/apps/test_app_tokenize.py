#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ivchat tokenize`: round trips, bad lines, conversation line by line, the golden strings."""
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import termios
import time

import program
from program import IVCHAT, NO_MODEL, SHARED, Tap, environment, run

tap = Tap()
model = program.model()
if not model:
    tap.skip("tokenize", NO_MODEL)
    tap.done()

BASE = ["tokenize", "-m", model]
TEXTS = ["hello world", "line\u2028paragraph\u2029next\u0085end", "", " ", "Ünïcödé 漢字 🙄\n\ttabs", "a" * 5000, "</s>[INST]", "quote \" backslash \\ slash /"]


def lines(rows):
    return "".join(json.dumps(r) + "\n" for r in rows)


r = run(*BASE, stdin=lines(TEXTS))
ids = [json.loads(x) for x in r.out.splitlines()]
tap.ok(r.code == 0 and r.err == "" and len(ids) == len(TEXTS) and all(i[0] == 1 for i in ids), "text to ids, BOS first", r)
back = run(*BASE, "--decode", stdin=r.out)
texts = [json.loads(x) for x in back.out.splitlines()]
tap.ok(back.code == 0 and texts == TEXTS, "ids back to the same text", (TEXTS, texts))
tap.ok(run(*BASE, stdin=lines(TEXTS).rstrip("\n")).out == r.out, "the last line may lack its newline")
tap.ok(run(*BASE, stdin=lines(TEXTS).replace("\n", "\r\n")).out == r.out, "carriage returns are no part of a line")
special = json.loads(run(*BASE, "--allow-special", stdin=lines(["</s>[INST]"])).out)
tap.ok(len(special) < len(ids[6]), "--allow-special makes control ids", (special, ids[6]))
bert = run(*BASE, "--kind", "bert", stdin=lines(["Watch the video and answer the question."]))
tap.ok(bert.out == "[101,3422,1996,2678,1998,3437,1996,3160,1012,102]\n", "--kind bert (SPEC 5.3)", bert)
escaped = run(*BASE, stdin='"\\u0041\\u00e9"\n')
tap.ok(escaped.code == 0 and escaped.out == run(*BASE, stdin='"Aé"\n').out, "escapes of JSON")
tap.ok(run(*BASE, stdin="").out == "", "no input, no output")

for what, text, args, why in (
        ("no JSON", 'hello\n', [], "line 2"),
        ("a number", '5\n', [], "line 2: expected a JSON string"),
        ("an empty line", '\n', [], "line 2: is empty"),
        ("two values", '"a" "b"\n', [], "line 2"),
        ("a lone surrogate", '"\\ud800"\n', [], "line 2"),
        ("invalid UTF-8", b'"\xff"\n', [], "line 2"),
        ("ids that are no array", '"a"\n', ["--decode"], "line 2: expected a JSON array of token ids"),
        ("an id that is no number", '[1,"a"]\n', ["--decode"], "line 2: element 1 is not a token id"),
        ("an id of 64 bits", '[4294967297]\n', ["--decode"], "line 2: element 0 is not a token id"),
        ("an id out of the vocabulary", '[99999999]\n', ["--decode"], "line 2"),
        ("ids without end", "[" + "[]," * (1 << 21) + "[]]\n", ["--decode"], "line 2: more than 4194304 values"),
        ("a negative id", '[-1]\n', ["--decode"], "line 2")):
    good = b"[1]\n" if args else b'"good"\n'
    r = run(*BASE, *args, stdin=good + (text if isinstance(text, bytes) else text.encode()) + good)
    tap.ok(r.code == 1 and r.out.count("\n") == 1 and len(r.lines) == 1 and why in r.err,
           "%s: exit 1, the line before it is answered" % what, r)

# a line at a time
with subprocess.Popen([IVCHAT, *BASE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as p:
    answers = []
    for text in ("one", "two"):
        p.stdin.write(json.dumps(text).encode() + b"\n")
        p.stdin.flush()
        ready, _, _ = select.select([p.stdout], [], [], 60)
        answers.append(p.stdout.readline() if ready else b"held back")
    p.stdin.close()
    tap.ok(p.wait(30) == 0 and all(a.startswith(b"[1,") for a in answers), "answers before the next line comes", answers)

def waiting(pipe):
    """Bytes that can be read from it."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]


# standard output that somebody made non-blocking
text = json.dumps("ab cd, " * 60000) + "\n"
reader, writer = os.pipe()
os.set_blocking(writer, False)
with subprocess.Popen([IVCHAT, *BASE], stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, env=environment()) as p:
    os.close(writer)
    p.stdin.write(text.encode())
    p.stdin.close()
    full = -1
    while full != (full := waiting(reader)):  # until the pipe is full
        time.sleep(1)
    with os.fdopen(reader, "rb") as f:
        out = f.read()
    tap.ok(p.wait(60) == 0 and out.decode() == run(*BASE, stdin=text).out, "a pipe that does not block loses nothing", (len(out), p.stderr.read()))

# a long line
with subprocess.Popen([IVCHAT, *BASE, "--kind", "bert"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                      env=environment()) as p:
    p.stdin.write(b'"' + b"ab cd, " * (6 << 20) + b'"\n')
    p.stdin.flush()
    time.sleep(1)  # it has been read and is being worked on
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    tap.ok(p.returncode == 130 and out == b"", "Ctrl-C in a long line", (p.returncode, out[:80], err))

for case, name, args in (("mistral_encode", "tiny-hd", ["--allow-special"]), ("mistral_decode", "tiny-hd", ["--decode"]),
                         ("internlm2_encode", "tiny-internlm", ["--allow-special"]),
                         ("bert_encode", "tiny-hd", ["--kind", "bert", "--allow-special"])):
    file = os.path.join(SHARED, "golden", "cases", "tokenizer", case + ".rows.jsonl")
    if not os.path.isfile(file):
        tap.skip("golden " + case, "no golden data beside the checkout")
        continue
    with open(file, encoding="utf-8") as f:
        rows = [json.loads(x) for x in f]
    give, want = ("ids", "text") if "--decode" in args else ("text", "ids")
    r = run("tokenize", "-m", program.model(name), *args, stdin=lines([row[give] for row in rows]))
    got = [json.loads(x) for x in r.out.splitlines()]
    same = sum(a == row[want] for a, row in zip(got, rows))
    tap.ok(r.code == 0 and same == len(rows) == len(got), "golden %s: %d rows" % (case, len(rows)),
           "%d of %d equal\n%s" % (same, len(rows), r.err))
tap.done()

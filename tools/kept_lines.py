# SPDX-License-Identifier: MIT
"""JSON lines of a long piece of work that may be interrupted at any moment and goes on with the same command.

The first line is {"settings": ...}: lines made with others are not mixed with these. Each further line is written whole and
flushed; a torn last one, which only a kill can leave, is cut off. One process writes.
"""
import json
import os


class Kept:
    """The lines of a file so far, and the open file."""

    def __init__(self, path, settings):
        self.lines, size = [], 0
        head = {"settings": json.loads(json.dumps(settings))}
        if os.path.exists(path):
            with open(path, "rb") as f:
                rows = f.read().splitlines(keepends=True)
            rows = rows[:-1] if rows and not rows[-1].endswith(b"\n") else rows
            size = sum(map(len, rows))
            try:
                self.lines = [json.loads(row) for row in rows]
            except ValueError as error:
                raise ValueError("%s: no JSON lines: %s" % (path, error)) from error
            if self.lines and self.lines[0] != head:
                raise ValueError("%s: made with other settings: %s, now %s" % (path, json.dumps(self.lines[0]), json.dumps(head)))
        self.file = open(path, "r+b" if os.path.exists(path) else "wb")
        self.file.truncate(size)
        self.file.seek(size)
        if not self.lines:
            self.add([head])
        self.lines = self.lines[1:]

    def add(self, lines):
        self.file.write(b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines))
        self.file.flush()

    def close(self):
        self.file.close()

# SPDX-License-Identifier: MIT
"""A program on a pseudo-terminal, and the screen that a person would see: enough of an xterm for line editing,
progress bars and completion lists, with double-width characters."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import unicodedata

from program import IVCHAT, environment

TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z@])|\x1b[()][A-Z0-9]|\x1b[=>78M]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]", re.DOTALL)


def width(char):
    if unicodedata.combining(char) or char in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class Screen:
    """Rows of cells; the second cell of a wide character is empty. Scrolled rows stay in `rows`."""

    def __init__(self, columns, height):
        self.columns, self.height = columns, height
        self.rows = [[]]
        self.top = self.row = self.column = 0
        self.modes = {}
        self.bells = 0

    def line(self):
        while len(self.rows) <= self.row:
            self.rows.append([])
        return self.rows[self.row]

    def down(self):
        self.row += 1
        self.line()
        self.top = max(self.top, self.row - self.height + 1)

    def put(self, char):
        wide = width(char)
        if self.column + wide > self.columns:
            self.column = 0
            self.down()
        cells = self.line()
        cells.extend([" "] * (self.column + max(wide, 1) - len(cells)))
        if wide == 0:
            cells[max(self.column - 1, 0)] += char
            return
        cells[self.column:self.column + wide] = [char, ""][:wide]
        self.column += wide

    def control(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.down()
        elif char == "\b":
            self.column = max(0, min(self.column, self.columns - 1) - 1)
        elif char == "\t":
            self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
        elif char == "\a":
            self.bells += 1

    def escape(self, text, final):
        if text.startswith("?"):
            self.modes[text[1:]] = final == "h"
            return
        numbers = [int(x) if x else 0 for x in text.split(";")]
        n = max(1, numbers[0])
        cells = self.line()
        column = min(self.column, self.columns - 1)
        if final == "A":
            self.row = max(self.top, self.row - n)
        elif final == "B":
            self.row = min(self.top + self.height - 1, self.row + n)
        elif final == "C":
            self.column = min(self.columns - 1, column + n)
        elif final == "D":
            self.column = max(0, column - n)
        elif final == "G":
            self.column = n - 1
        elif final == "H":
            self.row = self.top + n - 1
            self.column = max(1, (numbers + [1])[1]) - 1
        elif final == "K" and numbers[0] == 0:
            del cells[column:]
        elif final == "J" and numbers[0] == 0:
            del cells[column:]
            del self.rows[self.row + 1:]
        elif final == "J":
            self.top = self.row = len(self.rows)
        elif final == "P":
            del cells[column:column + n]
        elif final == "@":
            cells[column:column] = [" "] * n
        self.line()

    def feed(self, text):
        for hit in TOKEN.finditer(text):
            if hit.group(2):
                self.escape(hit.group(1), hit.group(2))
            elif hit.group(0) < " " or hit.group(0) == "\x7f":
                self.control(hit.group(0))
            elif hit.group(0)[0] != "\x1b":
                self.put(hit.group(0))

    def text(self):
        return "\n".join("".join(cells).rstrip() for cells in self.rows).rstrip("\n")


class Terminal:
    """text is what the program wrote, shown() what it looks like."""

    def __init__(self, *args, env=None, columns=80, height=24, program=None, cwd=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            if cwd:
                os.chdir(cwd)
            os.environ.clear()
            os.environ.update(environment({"TERM": "xterm", **(env or {})}))
            command = program or [IVCHAT]
            os.execvp(command[0], [*command, *args])
        self.columns, self.height = columns, height
        self.resize(columns, height)
        self.text = ""
        self.seen = 0  # where `after` begins to look
        self.rest = b""

    def resize(self, columns, height):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, columns, 0, 0))

    def pump(self, seconds):
        """Reads once; False when nothing comes any more."""
        ready, _, _ = select.select([self.fd], [], [], max(0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            return False
        data = self.rest + data
        whole = len(data)
        while whole > 0 and len(data) - whole < 4 and data[whole - 1] & 0xc0 == 0x80:
            whole -= 1
        if whole > 0 and data[whole - 1] >= 0xc0:  # a character may be cut here
            try:
                data[whole - 1:].decode()
                whole = len(data)
            except UnicodeDecodeError:
                whole -= 1
        else:
            whole = len(data)
        self.rest = data[whole:]
        self.text += data[:whole].decode("utf-8", "replace")
        return True

    def until(self, pattern, seconds=20):
        """Whether the pattern comes in what was written since the program began."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            if not self.pump(end - time.monotonic()):
                return bool(re.search(pattern, self.text))
        return True

    def after(self, pattern, seconds=20):
        """The same, looking behind the last match only; the match is taken."""
        end = time.monotonic() + seconds
        compiled = re.compile(pattern)
        while True:
            hit = compiled.search(self.text, self.seen)
            if hit:
                self.seen = hit.end()
                return True
            if not self.pump(end - time.monotonic()):
                return False

    def shows(self, pattern, seconds=20):
        """Whether the screen comes to show the pattern (lines joined by newlines)."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.shown()):
            if not self.pump(end - time.monotonic()):
                return bool(re.search(pattern, self.shown()))
        return True

    def screen(self):
        screen = Screen(self.columns, self.height)
        screen.feed(self.text)
        return screen

    def shown(self):
        return self.screen().text()

    def type(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.fd, data):]

    def modes(self):
        """(echoes, cooked): how the terminal is set now."""
        flags = termios.tcgetattr(self.fd)[3]
        return bool(flags & termios.ECHO), bool(flags & termios.ICANON)

    def wait(self, seconds=20):
        """The exit status; a program that does not end is killed."""
        end = time.monotonic() + seconds
        while self.pump(end - time.monotonic()):
            pass
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

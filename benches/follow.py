#!/usr/bin/env python3
"""How soon a long log is on the screen, and how soon a line that is appended to it.

    benches/follow.py LOG [--oomph target/release/oomph] [--lines 200]

In a terminal of 200x50, without a recording. The first frame is there when a screenful came. Then the log is copied as far
as its last 4 MiB, and lines are appended to the copy, some ten a second; the time is taken from the write to the moment when the
whole line is on the screen.
"""
import argparse
import fcntl
import os
import pty
import re
import select
import signal
import struct
import tempfile
import termios
import time

COLUMNS, ROWS = 200, 50
END = 4 << 20


class Screen:
    """A program in a terminal of its own, and what it writes there."""

    def __init__(self, command):
        self.started = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            os.execve(command[0], command, {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def until(self, wanted, seconds):
        """When `wanted` of what came since the call is true; None when it does not come to that."""
        came, end = b"", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], left)[0]:
                break
            try:
                came += os.read(self.fd, 1 << 16)
            except OSError:
                break
            if wanted(came):
                return time.monotonic()
        return None

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        self.until(lambda _: False, 0.3)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def shown(came):
    """The text of what came, without the sequences that move and colour."""
    return re.sub(rb"\x1b\[[0-?]*[ -/]*[@-~]", b"", came)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log")
    parser.add_argument("--oomph", default="target/release/oomph")
    parser.add_argument("--lines", type=int, default=200)
    options = parser.parse_args()
    oomph = os.path.abspath(options.oomph)
    firsts = []
    for _ in range(5):
        screen = Screen([oomph, "--no-record", options.log])
        first = screen.until(lambda came: len(came) > 600, 20)
        firsts.append((first - screen.started) * 1e3 if first else float("inf"))
        screen.end()
    print(f"first frame of {os.path.getsize(options.log) >> 20} MiB: {sorted(firsts)[2]:.0f} ms (median of 5)")
    with tempfile.NamedTemporaryFile(suffix=".log") as copy:
        with open(options.log, "rb") as log:
            log.seek(max(0, os.path.getsize(options.log) - END))
            copy.write(log.read())
            copy.flush()
        screen = Screen([oomph, "--no-record", copy.name])
        screen.until(lambda _: False, 3)
        waits, lost = [], 0
        for nth in range(options.lines):
            # Only cells that differ are sent: no letter is one of the line before.
            mark = bytes((b"abcdefghij", b"KLMNOPQRST")[nth % 2][int(digit)] for digit in f"{nth * 7919 % 10**8:08}")
            written = time.monotonic()
            copy.write(b"\n" + mark * 2 + b"\n")
            copy.flush()
            seen = screen.until(lambda came: mark in shown(came), 2)
            lost += seen is None
            waits.append(((seen or written + 2) - written) * 1e3)
            # Not in step with anything that the program does by the clock.
            screen.until(lambda _: False, 0.05 + nth * 17 % 100 / 1000)
        screen.end()
    waits.sort()
    at = lambda part: waits[min(int(len(waits) * part), len(waits) - 1)]
    print(f"an appended line: median {at(0.5):.0f} ms, p99 {at(0.99):.0f} ms of {len(waits)}, {lost} not seen whole")


if __name__ == "__main__":
    main()

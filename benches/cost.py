#!/usr/bin/env python3
"""What a monitor costs: oomph beside nvtop, nvitop and btop, each in a terminal of its own, one after the other.

    cargo build --release && python3 benches/cost.py [--seconds 20] [--size 200x50] [--gpus 8] [--only oomph,nvtop] [--steps 400] [--oomph-options=--slow]

The GPUs are those of the pretended driver of tests/fake-nvml, which counts the calls; every program sees the same figures at
the same time. CPU is that of the program and everything it started, without its start; bytes are what it wrote to its
terminal after its start; PSS is its memory, shared pages counted in parts, at the end. A program that is not installed is
left out. oomph shows its overview of a run at step 400 that logs a step each second, and then its GPU view.
"""
import argparse
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Seconds that a program has for its start before it is measured.
START = 4.0


def library(folder):
    """Builds the pretended driver."""
    source = os.path.join(HERE, "tests", "fake-nvml", "fake_nvml.c")
    out = os.path.join(folder, "libnvidia-ml.so.1")
    subprocess.run(["cc", "-O2", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden",
                    "-Wl,-soname,libnvidia-ml.so.1", "-o", out, source, "-lm", "-lpthread"],
                   check=True, stderr=subprocess.DEVNULL)
    os.symlink("libnvidia-ml.so.1", os.path.join(folder, "libnvidia-ml.so"))


def family(root):
    """A process and everything below it."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as f:
                parents[int(name)] = int(f.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    found, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


def cpu(pids):
    """Seconds on a processor, to the nanosecond, of every thread that lives."""
    total = 0
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as f:
                    total += int(f.read().split()[0])
        except OSError:
            pass
    return total / 1e9


def pss(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except OSError:
            pass
    return total / 1024


def calls(folder):
    """Calls of the driver so far, of every process that loaded it."""
    total = 0
    for name in os.listdir(folder):
        try:
            with open(os.path.join(folder, name)) as f:
                total += int(f.readline().rsplit("total=", 1)[1])
        except (OSError, IndexError, ValueError):
            pass
    return total


def measure(command, environment, size, seconds, keys=b"", writer=None):
    stats = tempfile.mkdtemp()
    environment = {**os.environ, **environment, "FAKE_NVML_STATS": os.path.join(stats, "%p"),
                   "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    columns, rows = size
    started = time.monotonic()
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.execvpe(command[0], command, environment)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    state = {"bytes": 0, "writes": 0, "first": None, "burst": None, "open": True}

    def read():
        while state["open"]:
            if not select.select([fd], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(fd, 1 << 16)
            except OSError:
                return
            state["bytes"] += len(data)
            state["writes"] += 1
            now = time.monotonic() - started
            # The frame is there when a screenful of text came: more than the sequences that set the terminal up.
            if state["first"] is None and state["bytes"] > 600:
                state["first"] = now

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(START / 2)
    if keys:
        os.write(fd, keys)
    time.sleep(START / 2)
    before = cpu(family(pid)), state["bytes"], calls(stats), time.monotonic()
    time.sleep(seconds)
    pids = family(pid)
    after = cpu(pids), state["bytes"], calls(stats), time.monotonic()
    memory = pss(pids)
    state["open"] = False
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 3
    while time.monotonic() < end and os.waitpid(pid, os.WNOHANG)[0] == 0:
        time.sleep(0.05)
    for left in pids:
        try:
            os.kill(left, signal.SIGKILL)
        except OSError:
            pass
    os.close(fd)
    shutil.rmtree(stats)
    span = after[3] - before[3]
    return {"CPU %": (after[0] - before[0]) / span * 100, "bytes/s": (after[1] - before[1]) / span,
            "NVML calls/s": (after[2] - before[2]) / span, "PSS MiB": memory,
            "first frame ms": None if state["first"] is None else state["first"] * 1000}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oomph", default=os.path.join(HERE, "target", "release", "oomph"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", default="200x50")
    parser.add_argument("--gpus", default="8")
    parser.add_argument("--steps", type=int, default=400, help="steps that the run has made before anybody looks")
    parser.add_argument("--oomph-options", default="", help="more options for oomph, such as '--slow'")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    size = tuple(map(int, options.size.split("x")))
    folder = tempfile.mkdtemp()
    library(folder)
    home = os.path.join(folder, "home")
    os.makedirs(os.path.join(home, ".config", "btop"))
    with open(os.path.join(home, ".config", "btop", "btop.conf"), "w") as f:
        f.write("update_ms = 1000\n")
    environment = {"LD_LIBRARY_PATH": folder, "FAKE_NVML_GPUS": options.gpus,
                   "FAKE_NVML_EPOCH": str(int(time.time())), "HOME": home, "XDG_CONFIG_HOME": home + "/.config"}
    log = os.path.join(folder, "train.log")
    stop = threading.Event()

    def train():
        with open(log, "w", buffering=1) as f:
            step = 0
            while step < options.steps or not stop.wait(1):
                step += 1
                f.write(f"{{'loss': '{2 / (1 + step / 50):.4f}', 'grad_norm': '{0.3 + step % 7 / 50:.4f}', "
                        f"'reward': '{0.4 + step / 500:.4f}', 'kl': '{step / 9000:.5f}', 'epoch': '{step / 1000:.3f}'}}\n")

    open(log, "w").close()
    threading.Thread(target=train, daemon=True).start()
    oomph = [options.oomph, "--no-record", *options.oomph_options.split(), log]
    programs = [("oomph", oomph, b""), ("oomph, GPU view", oomph, b"4"), ("oomph, memory view", oomph, b"3"),
                ("nvtop", ["nvtop", "-d", "10"], b""), ("nvitop", ["nvitop", "-m", "full", "--interval", "1"], b""),
                ("btop", ["btop"], b"")]
    wanted = options.only.split(",") if options.only else None
    found = {}
    for name, command, keys in programs:
        if wanted and name.split(",")[0] not in wanted:
            continue
        if not shutil.which(command[0]):
            print(f"{name} is not installed", file=sys.stderr)
            continue
        found[name] = measure(command, environment, size, options.seconds, keys)
    stop.set()
    shutil.rmtree(folder, ignore_errors=True)
    columns = ["CPU %", "bytes/s", "NVML calls/s", "PSS MiB", "first frame ms"]
    print(f"{options.gpus} GPUs, {options.size}, one look a second, {options.seconds:.0f} s each\n")
    print(f"{'':<20}" + "".join(f"{c:>16}" for c in columns))
    show = lambda value: "-" if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}"
    for name, row in found.items():
        print(f"{name:<20}" + "".join(f"{show(row[c]):>16}" for c in columns))
    for other in ("nvtop", "nvitop", "btop"):
        for own in ("oomph", "oomph, GPU view", "oomph, memory view"):
            if other in found and own in found:
                ratio = [found[own][c] / found[other][c] if found[other][c] and found[own][c] else None for c in columns]
                print(f"{own} / {other}".ljust(28) + "".join(f"{show(r):>{8 if n == 0 else 16}}" for n, r in enumerate(ratio)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

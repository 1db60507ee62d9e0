"""How a command is measured, and how that is shown."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time

MB = 1_000_000


def measure(command, cwd, env=None):
    """Runs a command; returns (wall seconds, CPU seconds, peak resident MiB)."""
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{errors.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def medians(results):
    """Of the first figures, the second, and so on."""
    return [statistics.median(figures) for figures in zip(*results, strict=True)]


class Server:
    """A program that prints where it is, may answer lines of its input, and ends with it; its lines are JSON. For a `with` statement."""

    def __init__(self, *command):
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.place = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} has ended")
        return json.loads(line)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Bench:
    """What all sections share: the binary, the folder for inputs and outputs, how often each thing is measured."""

    def __init__(self, longshore, work, runs):
        self.longshore, self.work, self.runs = longshore, work, runs

    def fresh(self, command, env=None):
        """Measures a command that finds neither a warehouse nor a store."""
        for folder in ("warehouse", ".longshore"):
            shutil.rmtree(self.work / folder, ignore_errors=True)
        return measure(command, self.work, env)

    def line(self, label, size, once):
        """Prints a line of the table of commands; returns bytes a second. `once` returns what `measure` does."""
        wall, cpu, rss = medians(once() for _ in range(self.runs))
        print(f"| {label} | {size / MB:,.0f} MB | {wall:.1f} s | {size / MB / wall:,.0f} MB/s | {cpu:.1f} s | {rss:,.0f} MiB |", flush=True)
        return size / wall


HEADER = "| what | input | wall | rate | CPU | peak memory |\n|---|---|---|---|---|---|"

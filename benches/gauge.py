"""Measures what programs cost: runs them pinned to one CPU, and reads their CPU time and memory from /proc."""

import contextlib
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys


def prepare_clients():
    """Pins this program, which acts as the clients, to CPU 0, and raises its limit of open files."""
    if not {0, 1} <= os.sched_getaffinity(0):
        sys.exit("two CPUs are required: one for the program under test and one for everything else")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {0})


def on_cpu(cpu, command):
    return subprocess.run(["taskset", "-c", str(cpu), *map(str, command)], capture_output=True, text=True).stdout


@contextlib.contextmanager
def running(cpu, command, log):
    with log.open("w") as output:
        process = subprocess.Popen(["taskset", "-c", str(cpu), *map(str, command)], stdout=output, stderr=output)
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def tree(pid):
    pids = [pid]
    with contextlib.suppress(FileNotFoundError):
        for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                pids += tree(int(child))
    return pids


def cpu_seconds(pid):
    ticks = 0
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError):
            fields = pathlib.Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Returns the proportional set size in KiB."""
    total = 0
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError):
            found = re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{member}/smaps_rollup").read_text(), re.M)
            total += int(found[1]) if found else 0
    return total


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release().split('-')[0]}"

"""A virtual machine that can be started, used over SSH, rebooted, and cut off from power.

A power cut is a SIGKILL of the emulator. Everything in the guest's memory is lost, above all its unwritten pages. Data that was sent to the
disk but not flushed is mostly lost too: each boot writes to a new overlay, and until a flush the emulator keeps in memory where in that
file each block is.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

from instance import free_ports
from verdict import Unexpected, expect

# Ports of the guest: SSH, the gateway's TLS listener, and the media origin.
PORTS = {"ssh": 22, "gateway": 8443, "origin": 8090}
BOOT = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off quiet systemd.show_status=0"


class Machine:
    """One disk, and an emulator while it runs."""

    def __init__(self, image, folder, project, patience=600):
        """Creates the machine; `project` is a folder that the guest can read at /mnt."""
        self.project = make_disk(project, folder / "project.img")
        self.image, self.folder, self.patience = image, folder, patience
        self.disk, self.disks, self.process = image / "base.img", 0, None
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.console = folder / "console"

    def boot(self):
        """Boots, and returns the seconds until SSH works."""
        begun = time.monotonic()
        said = (self.folder / "emulator").open("a")
        command = self.command(self.overlay())
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        self.wait_for_ssh()
        return time.monotonic() - begun

    def overlay(self):
        """Creates a new layer on top of the disk."""
        self.disks += 1
        layer = self.folder / f"disk{self.disks}"
        kind = "raw" if self.disk.suffix == ".img" else "qcow2"
        made = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", self.disk, layer]
        subprocess.run(made, check=True)
        self.disk = layer
        return layer

    def command(self, disk):
        """Uses one processor: with two, the emulator may run code that the kernel is just changing, which sometimes panics the kernel."""
        forwarded = "".join(f",hostfwd=tcp:127.0.0.1:{self.ports[name]}-:{port}" for name, port in PORTS.items())
        return [
            "qemu-system-x86_64", "-accel", accelerator(), "-cpu", "Westmere", "-smp", "1", "-m", "2048",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{self.console}",
            "-kernel", self.image / "vmlinuz", "-initrd", self.image / "initrd", "-append", BOOT,
            "-drive", f"file={disk},if=virtio,format=qcow2,cache=writeback",
            "-drive", f"file={self.project},if=virtio,format=raw,readonly=on",
            "-netdev", f"user,id=net,restrict=on{forwarded}", "-device", "virtio-net-pci,netdev=net",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip

    def ssh(self, *words):
        options = {
            "ControlMaster": "auto", "ControlPath": self.folder / "control", "ControlPersist": "yes",
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR",
            "BatchMode": "yes", "ConnectTimeout": "10", "ServerAliveInterval": "10", "ServerAliveCountMax": "30",
        }  # fmt: skip
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", *given, "-i", self.image / "key", "-p", str(self.ports["ssh"]), "root@127.0.0.1", *words]

    def try_to_run(self, script, **options):
        """Runs a bash script in the guest; returns its status and output."""
        command = self.ssh("bash", "-c", shlex.quote(f"set -euo pipefail; {script}"))
        options = {"timeout": self.patience, "stdin": subprocess.DEVNULL} | options
        return subprocess.run(command, capture_output=True, text=True, check=False, errors="replace", **options)

    def run(self, script, **options):
        """Runs a script, which must succeed, and returns its output."""
        done = self.try_to_run(script, **options)
        expect(done.returncode == 0, f"in the machine, {script!r} failed with status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, script):
        """Starts a script in the background, with its output as a pipe."""
        command = self.ssh("bash", "-c", shlex.quote(script))
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for_ssh(self):
        deadline = time.monotonic() + self.patience
        while True:
            try:
                if self.try_to_run("true", timeout=30).returncode == 0:
                    return
            except subprocess.TimeoutExpired:
                pass
            panic = self.console.exists() and "Kernel panic" in self.console.read_text(errors="replace")
            if panic or self.process.poll() is not None or time.monotonic() > deadline:
                raise Unexpected(f"the machine did not start: {self.last_words()}")
            time.sleep(1)

    def last_words(self):
        said = [path.read_text(errors="replace")[-2_000:] for path in (self.console, self.folder / "emulator") if path.exists()]
        return "\n".join(said)

    def reboot(self):
        """Reboots, and returns the seconds until SSH works again."""
        begun, before = time.monotonic(), self.boot_id()
        self.try_to_run("systemctl reboot")
        self.hang_up()
        deadline = begun + self.patience
        while True:
            self.wait_for_ssh()
            if self.boot_id() not in ("", before):
                return time.monotonic() - begun
            expect(time.monotonic() < deadline, f"the machine did not reboot: {self.last_words()}")
            time.sleep(1)

    def boot_id(self):
        return self.try_to_run("cat /proc/sys/kernel/random/boot_id").stdout

    def hang_up(self):
        subprocess.run(self.ssh("-O", "exit"), capture_output=True, check=False)

    def power_cut(self):
        """Kills the emulator, without notice to the guest."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.hang_up()


def make_disk(content, disk):
    """Creates a file system with the content of a folder."""
    command = ["mkfs.ext4", "-q", "-F", "-d", content, "-E", "root_owner=0:0", disk, "512M"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return disk


def accelerator():
    """Returns `kvm` only with hardware virtualisation; without it, KVM cannot boot this kernel."""
    helped = re.search(r"^flags\b.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return "kvm" if helped and os.access("/dev/kvm", os.W_OK) else "tcg"

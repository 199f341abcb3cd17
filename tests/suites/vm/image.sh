#!/usr/bin/env bash
# Creates the disk of the virtual machine: Debian 13 with systemd, a kernel and what docs/systemd.md takes for granted.
#
# usage: image.sh FOLDER. Writes base.img, vmlinuz, initrd and the private key there; later runs change nothing.
set -euo pipefail

FOLDER=$(mkdir -p "$1" && realpath "$1")
MIRROR=${VM_MIRROR:-http://deb.debian.org/debian}
TREE=$FOLDER/tree
PACKAGES=(
  systemd-sysv dbus linux-image-cloud-amd64 initramfs-tools openssh-server iproute2 procps
  ca-certificates curl python3-venv ffmpeg
)
WHEELS=('yt-dlp[default]' deno)

stamp=$(sha256sum "$0" | cut -d ' ' -f 1)
[ "$(cat "$FOLDER/stamp" 2>/dev/null)" != "$stamp" ] || exit 0

say() { printf '   image: %s\n' "$*" >&2; }
inside() { LC_ALL=C chroot "$TREE" "$@" >>"$FOLDER/log" 2>&1; }

# Installs without prompts and without starting services.
bootstrap() {
  rm -rf "$TREE" "$FOLDER/stamp" "$FOLDER/log"
  mkdir -p "$FOLDER/debs"
  say "Debian trixie from $MIRROR"
  debootstrap --variant=minbase --cache-dir="$FOLDER/debs" trixie "$TREE" "$MIRROR" >>"$FOLDER/log" 2>&1
  printf '#!/bin/sh\nexit 101\n' >"$TREE/usr/sbin/policy-rc.d"
  chmod 0755 "$TREE/usr/sbin/policy-rc.d"
  mkdir -p "$TREE/etc/initramfs-tools/conf.d"
  # Do not search for hardware: before the root file system is mounted, the kernel needs only the disk.
  printf 'MODULES=list\n' >"$TREE/etc/initramfs-tools/conf.d/vm"
  mkdir -p "$TREE/etc/initramfs-tools" && printf 'virtio_pci\nvirtio_blk\next4\n' >"$TREE/etc/initramfs-tools/modules"
  say "${PACKAGES[*]}"
  inside apt-get update
  inside env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${PACKAGES[@]}"
  rm "$TREE/usr/sbin/policy-rc.d"
}

# The machine has no internet access, so pip finds its packages installed. Their installation takes minutes under emulation; the check that they
# are installed takes a moment.
wheels() {
  say "${WHEELS[*]} from PyPI"
  cp /etc/resolv.conf "$TREE/etc/resolv.conf"
  # The authorities that this machine trusts, in case a proxy between it and PyPI has its own.
  cp /etc/ssl/certs/ca-certificates.crt "$TREE/tmp/trusted.crt"
  inside python3 -m venv /opt/yt-dlp
  inside env -i HOME=/tmp {PIP_CERT,SSL_CERT_FILE}=/tmp/trusted.crt /opt/yt-dlp/bin/pip install "${WHEELS[@]}"
  rm "$TREE/tmp/trusted.crt"
  printf '[global]\nno-index = true\ndisable-pip-version-check = true\n' >"$TREE/etc/pip.conf"
}

# An address without a default route, and root access with a key that exists only for this image.
settings() {
  printf 'vm\n' >"$TREE/etc/hostname"
  printf '127.0.0.1 localhost vm\n::1 localhost\n' >"$TREE/etc/hosts"
  printf 'nameserver 10.0.2.3\n' >"$TREE/etc/resolv.conf"
  printf '%s\n' '/dev/vda / ext4 defaults 0 1' '/dev/vdb /mnt ext4 ro 0 0' >"$TREE/etc/fstab"
  printf '[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
    >"$TREE/etc/systemd/network/10-eth0.network"
  inside systemctl enable systemd-networkd ssh
  inside systemctl mask getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
  # Keep the log of the previous boot.
  mkdir -p "$TREE/var/log/journal"
  # Leave nothing for a first boot to do.
  printf '%s\n' 5a11b0475a11b0475a11b0475a11b047 >"$TREE/etc/machine-id"
  inside systemctl mask serial-getty@ttyS0.service fstrim.timer e2scrub_all.timer systemd-journal-catalog-update.service
  touch "$TREE/etc/.updated" "$TREE/var/.updated"
  rm -f "$FOLDER/key" "$FOLDER/key.pub"
  ssh-keygen -q -t ed25519 -N '' -C vm -f "$FOLDER/key"
  install -D -m 0600 "$FOLDER/key.pub" "$TREE/root/.ssh/authorized_keys"
  rm -rf "$TREE"/var/cache/apt/archives/*.deb "$TREE"/var/lib/apt/lists/*
}

bootstrap
wheels
settings
cp "$TREE"/boot/vmlinuz-* "$FOLDER/vmlinuz"
cp "$TREE"/boot/initrd.img-* "$FOLDER/initrd"
say "the file system"
rm -f "$FOLDER/base.img"
mkfs.ext4 -q -F -L vm -d "$TREE" "$FOLDER/base.img" 6G >>"$FOLDER/log" 2>&1
rm -rf "$TREE"
echo "$stamp" >"$FOLDER/stamp"

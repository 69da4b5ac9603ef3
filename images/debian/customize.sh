#!/bin/sh
# Runs on the freshly installed root ($1) of the debian guest.
set -eu
root=$1
cd "$root"
cat >etc/fstab <<'F'
LABEL=root / ext4 defaults,discard,errors=remount-ro 0 1
LABEL=BOOT /boot/efi vfat defaults,umask=0077,nofail 0 2
F
mkdir -p boot/efi
rm -f etc/apt/sources.list
mkdir -p etc/apt/sources.list.d
cat >etc/apt/sources.list.d/debian.sources <<'F'
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.debian.org/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
F
# Every machine made from the image gets its own.
rm -f etc/ssh/ssh_host_* etc/hostname var/lib/dbus/machine-id
: >etc/machine-id
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >etc/hosts
rm -f etc/resolv.conf
ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
rm -rf var/lib/apt/lists/* var/cache/apt/* var/log/* var/cache/debconf/*-old usr/share/doc/* usr/share/man/*
mkdir -p var/lib/apt/lists/partial var/cache/apt/archives/partial

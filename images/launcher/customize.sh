#!/bin/sh
# Runs on the freshly installed root ($1) of the virt-launcher image: takes away what a launcher pod never uses, and everything that
# could raise privileges. What is left is checked afterwards: every program and library must still find the libraries it needs.
set -eu
root=$1
cd "$root"

# Packages that come in as dependencies of maintainer scripts or of system services, neither of which exist in the image.
unused='
adduser alsa-topology-conf alsa-ucm-conf apt base-passwd bsdutils cron cron-daemon-common dbus dbus-bin dbus-daemon
dbus-session-bus-common dbus-system-bus-common debconf debian-archive-keyring dmidecode dpkg e2fsprogs gettext-base
hostname init-system-helpers iproute2 libapt-pkg7.0 libasound2-data libasound2t64 libdb5.3t64 libpam-modules libpam-modules-bin
libpam-runtime libpolkit-agent-1-0 libpolkit-gobject-1-0 libsystemd-shared libtorrent-rasterbar2.0t64 login login.defs
logrotate logsave mount ncurses-bin openssl passwd perl-base polkitd sgml-base sqv systemd systemd-container systemd-dev
systemd-timesyncd sysvinit-utils tzdata uidmap usbutils util-linux xml-core libxtables12 libduktape207 ipxe-qemu-256k-compat-efi-roms'
for package in $unused; do
    for list in "var/lib/dpkg/info/$package.list" "var/lib/dpkg/info/$package:amd64.list"; do
        [ -e "$list" ] || continue
        while read -r file; do
            # The disk worker bounds qemu-img with it.
            [ "$file" != /usr/bin/prlimit ] || continue
            # /var/run and the like are absolute links, which lead out of the tree.
            case $file in /usr/*|/etc/*|/bin/*|/sbin/*|/lib/*|/lib64/*) ;; *) continue ;; esac
            if [ -h ".$file" ] || [ -f ".$file" ]; then rm -f ".$file"; fi
        done <"$list"
    done
done

# QEMU: other machines' firmware, the 32-bit and microvm emulators (the 64-bit one runs 32-bit guests), displays and sound.
rm -f usr/bin/qemu-system-i386 usr/bin/qemu-system-x86_64-microvm usr/bin/qemu-system-amd64 usr/bin/qemu-storage-daemon
rm -rf usr/share/qemu/trace-events-all usr/share/qemu/*.dtb usr/share/qemu/openbios-* usr/share/qemu/hppa-* \
    usr/share/qemu/skiboot.lid usr/share/qemu/slof.bin usr/share/qemu/s390-* usr/share/qemu/u-boot* usr/share/qemu/palcode-* \
    usr/share/qemu/npcm* usr/share/qemu/opensbi* usr/share/qemu/linux-user-vdso* usr/share/qemu/QEMU,* usr/share/qemu/vof* \
    usr/share/qemu/pxe-eepro100.rom usr/share/qemu/pxe-ne2k_pci.rom usr/share/qemu/pxe-pcnet.rom \
    usr/share/qemu/efi-eepro100.rom usr/share/qemu/efi-ne2k_pci.rom usr/share/qemu/efi-pcnet.rom
rm -f usr/lib/x86_64-linux-gnu/qemu/audio-*.so usr/lib/x86_64-linux-gnu/qemu/ui-*.so usr/lib/x86_64-linux-gnu/qemu/chardev-baum.so \
    usr/lib/x86_64-linux-gnu/qemu/hw-s390x-*.so
rm -f usr/share/OVMF/*snakeoil* usr/share/OVMF/*strictnx* usr/share/qemu/OVMF.fd
rm -f usr/share/ovmf/*snakeoil*

# The list of packages stays (scanners read it); the rest of the package managers' state goes.
mv var/lib/dpkg/status dpkg-status
rm -rf var/lib/dpkg var/lib/apt var/cache etc/apt etc/dpkg usr/lib/apt usr/lib/dpkg
mkdir -p var/lib/dpkg var/cache
mv dpkg-status var/lib/dpkg/status
rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bash-completion usr/share/zsh \
    usr/share/perl5 usr/share/pam* usr/share/polkit-1 usr/share/dbus-1 usr/share/debconf usr/share/apparmor* usr/share/augeas \
    usr/share/common-licenses usr/share/applications usr/share/icons usr/share/alsa usr/share/systemd usr/share/menu usr/share/bug \
    usr/lib/systemd usr/lib/tmpfiles.d usr/lib/sysusers.d usr/lib/udev usr/lib/x86_64-linux-gnu/perl-base usr/lib/locale usr/lib/init \
    usr/lib/x86_64-linux-gnu/sasl2 usr/lib/x86_64-linux-gnu/gconv usr/lib/x86_64-linux-gnu/security usr/lib/polkit-1 usr/lib/pcrlock.d usr/lib/kernel usr/lib/dbus-1.0 \
    usr/share/gdb usr/share/keyrings usr/share/initramfs-tools usr/share/base-passwd usr/share/ca-certificates usr/share/zoneinfo usr/games usr/include usr/src
rm -rf var/log/* var/spool var/mail var/backups var/local var/opt var/lib/systemd var/lib/pam var/lib/polkit-1 var/lib/logrotate \
    etc/cron* etc/logrotate* etc/systemd etc/init.d etc/rc?.d etc/pam* etc/polkit-1 etc/apparmor* etc/dbus-1 etc/security \
    etc/binfmt.d etc/ca-certificates etc/ca-certificates.conf etc/credstore* etc/environment etc/fstab etc/hostname etc/inputrc etc/issue* \
    etc/kernel etc/localtime etc/modules-load.d etc/motd etc/opt etc/qemu-if* etc/resolv.conf etc/rmt etc/sasl2 etc/selinux etc/ssh \
    etc/vconsole.conf usr/sbin/*-shell* usr/sbin/iconvconfig usr/sbin/ldconfig usr/sbin/installkernel usr/sbin/zic usr/sbin/update-ca-certificates \
    etc/skel etc/default etc/profile.d etc/update-motd.d etc/X11 etc/xml etc/sgml etc/tmpfiles.d etc/debconf.conf etc/machine-id
rm -rf boot home media mnt opt srv root/.[!.]* tmp/* var/tmp/* run/*

# Accounts: programs look up the name of the user they run as.
cat >etc/passwd <<'P'
root:x:0:0:root:/root:/usr/sbin/nologin
qemu:x:107:107:qemu:/run/kubevirt-private:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
P
printf 'root:x:0:\nqemu:x:107:\nnogroup:x:65534:\n' >etc/group
rm -f etc/shadow* etc/gshadow* etc/passwd- etc/group- etc/subuid* etc/subgid* etc/.pwd.lock
# The same in every pod: what must differ from pod to pod (libvirt's host_uuid) is set by the launcher.
echo 7f0d4be2c1f54b0f8a2f5d3c9e6b1a70 >etc/machine-id

mkdir -p run/kubevirt-private run/libvirt run/lock tmp var/tmp
# Where people who look into launcher pods expect libvirt (contract): virsh -c qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock
ln -s ../kubevirt-private/run/libvirt/libvirt-sock run/libvirt/virtqemud-sock
# Where they expect cloud-init's image (contract): cloud-init-data/NAMESPACE/NAME/ below it.
ln -s kubevirt-private run/kubevirt-ephemeral-disks
find . -xdev \( -type f -o -type d \) -perm /7002 -exec chmod u-s,g-s,o-wt {} +
# Links to what is gone. Absolute ones would be looked up on this machine instead: only those are named that are known to dangle.
find etc/ssl/certs -type l -delete
find usr etc -xdev -xtype l ! -lname '/*' ! -lname '../proc/*' -delete
find . -xdev -type d -empty -path './usr/*' -delete

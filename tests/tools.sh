#!/usr/bin/env bash
# The real clients, servers and machines that the tests drive. As root they are installed; otherwise what is missing is
# named, and its tests skip. In CI nothing may be missing. One a line: what is looked for, and its package; a path is
# looked for as a file.
set -u
needed="
    tftp:tftp-hpa
    atftp:atftp
    curl:curl
    gpg:gnupg
    gpgv:gpgv
    dpkg-deb:dpkg
    openssl:openssl
    lftp:lftp
    busybox:busybox
    tnftp:tnftp
    strace:strace
    patch:patch
    tmux:tmux
    promtool:prometheus
    setpriv:util-linux
    mke2fs:e2fsprogs
    ip:iproute2
    nft:nftables
    logrotate:logrotate
    man:man-db
    lintian:lintian
    systemd-analyze:systemd
    systemd-nspawn:systemd-container
    mmdebstrap:mmdebstrap
    mcopy:mtools
    mkfs.vfat:dosfstools
    sfdisk:fdisk
    debugfs:e2fsprogs
    grub-mkimage:grub-common
    /usr/lib/grub/i386-pc/boot.img:grub-pc-bin
    ssh:openssh-client
    fail2ban-regex:fail2ban
    chromium:chromium
    chromedriver:chromium-driver
    dnsmasq:dnsmasq-base
    dhcpd:isc-dhcp-server
    kea-dhcp4:kea-dhcp4-server
    qemu-system-x86_64:qemu-system-x86
    qemu-system-aarch64:qemu-system-arm
    /usr/share/OVMF/OVMF_CODE_4M.fd:ovmf
    /usr/share/seabios/bios-256k.bin:seabios
    /usr/lib/ipxe/qemu/pxe-e1000.rom:ipxe-qemu
    /usr/lib/u-boot/qemu_arm64/u-boot.bin:u-boot-qemu
    /usr/lib/shim/shimx64.efi.signed:shim-signed
    /usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed:grub-efi-amd64-signed
"
here() { case "$1" in /*) [ -e "$1" ];; *) command -v "$1" >/dev/null 2>&1;; esac; }
look() {
    missing=""
    for pair in $needed; do
        here "${pair%%:*}" || missing="$missing ${pair##*:}"
    done
}
install() {
    # DHCP servers are wanted for their judgement of a configuration: nothing that is installed here may start
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    log=$(mktemp)
    apt-get update -qq >"$log" 2>&1
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >>"$log" 2>&1 || tail -5 "$log" >&2
    rm -f "$log"
}
look
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    install
    look
fi
if [ -n "$missing" ]; then
    echo "tests: not here, their tests are skipped:$missing" >&2
    [ "${CI:-}" = true ] && { echo "tests: in CI nothing is skipped" >&2; exit 1; }
fi
exit 0

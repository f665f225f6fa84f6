#!/usr/bin/env bash
# The real clients that the tests drive. As root they are installed; otherwise what is missing is named, and its tests skip.
# In CI nothing may be missing.
set -u
needed="tftp:tftp-hpa atftp:atftp curl:curl lftp:lftp busybox:busybox tnftp:tnftp strace:strace systemd-analyze:systemd ip:iproute2 setpriv:util-linux mke2fs:e2fsprogs tmux:tmux chromium:chromium chromedriver:chromium-driver lintian:lintian man:man-db mmdebstrap:mmdebstrap systemd-nspawn:systemd-container nft:nftables logrotate:logrotate fail2ban-regex:fail2ban patch:patch"
missing=""
for pair in $needed; do
    here "${pair%%:*}" || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq >/dev/null 2>&1
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1
    missing=""
    for pair in $needed; do
        here "${pair%%:*}" || missing="$missing ${pair##*:}"
    done
fi
if [ -n "$missing" ]; then
    echo "tests: not here, their tests are skipped:$missing" >&2
    [ "${CI:-}" = true ] && { echo "tests: in CI nothing is skipped" >&2; exit 1; }
fi
exit 0

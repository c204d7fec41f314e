#!/bin/sh
# SPDX-License-Identifier: MIT
# Unpacks the ARM builds of the libraries we stand on (about 71 MB of packages, 250 MB on disk) into
# build-aarch64-sysroot/root, for the cross build and its tests. apt runs with a state of its own below
# that folder: nothing is installed, no architecture is added to this machine, no root is needed.
# The system's own package sources, keys and proxies are used. Does nothing when it is already done.
set -eu
cd "$(dirname "$0")/.."
packages='libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libjansson-dev libutf8proc-dev libssl-dev libcurl4-openssl-dev libedit-dev libmicrohttpd-dev libgnutls28-dev libseccomp-dev libcmocka-dev'
top=$PWD/build-aarch64-sysroot
stamp=$top/complete
[ "$(cat "$stamp" 2>/dev/null || true)" = "$packages" ] && exit 0

command -v apt-get >/dev/null || { echo 'needs apt-get' >&2; exit 1; }
command -v dpkg-deb >/dev/null || { echo 'needs dpkg-deb' >&2; exit 1; }
rm -rf "$top"
mkdir -p "$top/state/lists/partial" "$top/cache/archives/partial" "$top/root"
: >"$top/state/status"
cat >"$top/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Get::List-Cleanup "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "5";
Dir::State "$top/state";
Dir::State::status "$top/state/status";
Dir::Cache "$top/cache";
CONF
# a third-party source without ARM packages fails here and does not matter
APT_CONFIG=$top/apt.conf apt-get -qq update || true
# shellcheck disable=SC2086  # a list of words
APT_CONFIG=$top/apt.conf apt-get -qq -y --download-only install $packages
for deb in "$top"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$top/root" --exclude=./usr/share/doc --exclude=./usr/share/man \
        --exclude=./usr/share/locale --exclude=./usr/share/icons
done
rm -rf "$top/cache" "$top/state"
echo "$packages" >"$stamp"

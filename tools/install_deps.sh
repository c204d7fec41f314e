#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what the build (and, with "all", the tests) need and this machine lacks. Does nothing, in
# about 50 ms, when nothing is missing. Debian and Ubuntu: apt-get, as root or through sudo. Elsewhere,
# or without root: prints the list and fails, because a half-built tree explains less than a list.
#
#   tools/install_deps.sh build|all [--dry-run]
set -u
what=${1:-all}
dry=${2:-}
required=''
optional=''

have() { command -v "$1" >/dev/null 2>&1; }
lib() { have pkg-config && pkg-config --exists "$@" 2>/dev/null; }
require() { required="$required $1"; }
wish() { optional="$optional $1"; }
compiles() { # the compiler in $1 links an empty program with the flags that follow
    out=$(mktemp) || return 1
    echo 'int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n);
int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n) { return p && n > 9; }' |
        "$@" -x c - -o "$out" >/dev/null 2>&1
    rc=$?
    rm -f "$out"
    return $rc
}

have cc || require gcc
echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null >/dev/null 2>&1 || require libc6-dev
have make || require make
have cmake || require cmake
have ninja || require ninja-build
have pkg-config || require pkg-config
lib libavformat || require libavformat-dev
lib libavcodec || require libavcodec-dev
lib libavutil || require libavutil-dev
lib libswscale || require libswscale-dev
lib jansson || require libjansson-dev
lib libutf8proc || require libutf8proc-dev
lib libcrypto || require libssl-dev
lib libcurl || require libcurl4-openssl-dev
lib libedit || require libedit-dev
lib libmicrohttpd || require libmicrohttpd-dev
lib gnutls || require libgnutls28-dev
lib libseccomp || require libseccomp-dev

if [ "$what" = all ]; then
    have python3 || require python3
    lib cmocka || require libcmocka-dev
    python3 -c 'import numpy' 2>/dev/null || /usr/bin/python3 -c 'import numpy' 2>/dev/null || wish python3-numpy
    python3 -c 'import sentencepiece' 2>/dev/null || /usr/bin/python3 -c 'import sentencepiece' 2>/dev/null ||
        wish python3-sentencepiece
    # optional: without one of these its part of the tests says SKIP and why
    have c++ || wish g++
    have clang-format-14 || have clang-format || wish clang-format
    have clang || wish clang
    if have clang; then
        major=$(clang -dumpversion | cut -d. -f1)
        compiles clang -fsanitize=fuzzer,address || wish "libclang-rt-$major-dev"
    else
        wish libclang-rt-14-dev
    fi
    for shell in zsh fish; do # their completions
        have $shell || wish $shell
    done
    have mandoc || wish mandoc
    have tmux || wish tmux
    have curl || wish curl
    # the page of the server in a real browser
    have chromedriver || wish chromium-driver
    have chromium || wish chromium
    /usr/bin/python3 -c 'import selenium' 2>/dev/null || wish python3-selenium
    if [ "$(uname -m)" = x86_64 ]; then
        [ -e /usr/include/oneapi/dnnl/dnnl.h ] || wish libdnnl-dev
        have qemu-aarch64 || wish qemu-user
        have aarch64-linux-gnu-gcc || wish gcc-aarch64-linux-gnu
        [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || wish libc6-dev-arm64-cross
    fi
fi

[ -n "$required$optional" ] || exit 0
echo "missing:$required${optional:+ (for tests:$optional)}"
[ "$dry" = --dry-run ] && exit 1

if ! have apt-get; then
    cat >&2 <<'LIST'
This is no Debian or Ubuntu; please install with your own package manager:
  a C11 compiler, make, cmake >= 3.25, ninja, pkg-config
  FFmpeg >= 5.1 (libavformat, libavcodec, libavutil, libswscale), jansson >= 2.13, utf8proc, OpenSSL (libcrypto),
  libcurl >= 7.85, libedit, libmicrohttpd >= 0.9.75, gnutls, libseccomp
  for the tests also: python3, cmocka, clang with its sanitizer runtime, clang-format 14, qemu-user,
  an aarch64 cross compiler, curl, chromium with its driver, selenium
  Fedora:  gcc make cmake ninja-build pkgconf ffmpeg-free-devel jansson-devel utf8proc-devel openssl-devel
           libcurl-devel libedit-devel libmicrohttpd-devel gnutls-devel libseccomp-devel python3 libcmocka-devel clang compiler-rt qemu-user
  Arch:    base-devel cmake ninja ffmpeg jansson libutf8proc openssl curl libedit libmicrohttpd gnutls libseccomp python cmocka clang qemu-user
LIST
    [ -z "$required" ]
    exit
fi

if [ "$(id -u)" = 0 ]; then
    as_root=''
elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=sudo
else
    echo "Not root and no sudo: please run" >&2
    echo "  apt-get install$required$optional" >&2
    [ -z "$required" ]
    exit
fi

apt() { # noninteractive; waits for another apt, retries a shaky mirror
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
        -o Acquire::Retries=5 "$@" </dev/null
}
updated=''
install() { # one package list; a second and third try after refreshing the index
    for try in 1 2 3; do
        apt install -y --no-install-recommends "$@" && return 0
        # a broken third-party source must not stop us: what counts is the install after it
        apt update || true
        updated=1
    done
    return 1
}

# shellcheck disable=SC2086  # lists of words
if [ -n "$required" ]; then
    install $required || {
        echo "could not install:$required" >&2
        exit 1
    }
fi
# one by one if need be: an old release may lack one of them
# shellcheck disable=SC2086
if [ -n "$optional" ] && ! apt install -y --no-install-recommends $optional; then
    [ -n "$updated" ] || apt update || true
    for p in $optional; do
        apt install -y --no-install-recommends "$p" ||
            echo "could not install $p: the tests that need it will be skipped" >&2
    done
fi
exit 0

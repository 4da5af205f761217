#!/bin/sh
# Installs into .tools/deploy what tests of deploy/ check with: Envoy, Helm's library and a reader of compose files from
# locked wheels; promtool and PgBouncer from Debian's packages, where apt-get is there. Best effort, bounded in time: ends
# with 0, and what is missing afterwards shows as skipped tests.
set -u
cd "$(dirname "$0")/.."
tools=$PWD/.tools/deploy
lock=tests/deploy/tools.txt

install_wheels() {
    "${PYTHON:-python3}" -m venv --clear "$tools" || return
    timeout 300 "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --only-binary=:all: --requirement "$lock" </dev/null || return
    cp "$lock" "$tools/installed.txt"
}

# Unpacked, not installed: Debian's packages would start their servers.
unpack() {
    folder=$tools/debian
    mkdir -p "$folder/packages" "$tools/bin"
    (
        cd "$folder/packages" || exit
        timeout 60 apt-get -qq download "$@" </dev/null >/dev/null 2>&1 || {
            timeout 120 apt-get -qq update </dev/null >/dev/null 2>&1
            timeout 120 apt-get -qq download "$@" </dev/null >/dev/null 2>&1 || exit
        }
        for package in *.deb; do
            dpkg -x "$package" "$folder" || exit
        done
    )
    rm -rf "$folder/packages"
}

# program, where it lies in its package, packages; the libraries it needs lie beside it.
bring() {
    program=$1 path=$2
    shift 2
    command -v "$program" >/dev/null 2>&1 && return
    [ -x "$tools/bin/$program" ] && return
    command -v apt-get >/dev/null 2>&1 || return
    echo "Unpacking $program"
    unpack "$@"
    if [ ! -x "$tools/debian/$path" ]; then
        echo "could not bring $program; tests that need it are skipped"
        return
    fi
    printf '#!/bin/sh\nLD_LIBRARY_PATH=$(echo "%s"/debian/usr/lib/*-linux-gnu) exec "%s/debian/%s" "$@"\n' \
        "$tools" "$tools" "$path" >"$tools/bin/$program"
    chmod +x "$tools/bin/$program"
}

if ! cmp -s "$lock" "$tools/installed.txt"; then
    echo "Installing tools for tests of deploy/"
    install_wheels || echo "could not install them; tests that need them are skipped"
fi
bring promtool usr/bin/promtool prometheus
bring pgbouncer usr/sbin/pgbouncer pgbouncer libevent-2.1-7 libc-ares2
exit 0

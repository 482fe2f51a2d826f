#!/usr/bin/env bash
# Installs what the tests and benchmarks need beside Go, git and make. Where all
# is there it does nothing; where it may not install, it says what is missing.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

# command=Debian package
wanted=(getfattr=attr setfacl=acl zstd=zstd tar=tar mkfs.ext4=e2fsprogs python3=python3 age=age restic=restic borg=borgbackup)

missing=()
for w in "${wanted[@]}"; do
    command -v "${w%%=*}" >/dev/null || missing+=("${w#*=}")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "deps: missing: ${missing[*]} (Debian's names); install them with this system's package manager" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "deps: missing: ${missing[*]}; run: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -o Acquire::Retries=3 -qq update
apt-get -o Acquire::Retries=3 -qq install -y --no-install-recommends "${missing[@]}"

#!/usr/bin/env bash
# Formatting, vet, staticcheck and govulncheck over both modules. The last two
# come from the network; where it does not give them, that is said, not failed.
# With LINT_STRICT=1 it fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

skipped() {
    echo "lint: $1" >&2
    [ "${LINT_STRICT:-}" != 1 ]
}

unformatted=$(gofmt -l $(git -c safe.directory='*' ls-files --cached --others --exclude-standard -- '*.go' | while read -r f; do [ -e "$f" ] && echo "$f"; done))
if [ -n "$unformatted" ]; then
    echo "lint: not formatted (gofmt -w):" >&2
    echo "$unformatted" >&2
    exit 1
fi

modules=(. e2e)
for m in "${modules[@]}"; do
    (cd "$m" && go vet -tags soak ./...)
done

bin=${LIFEBOAT_TEST_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/lifeboat-test/bin}
mkdir -p "$bin"

# tool NAME PACKAGE builds a tool at the version that e2e/tools/go.mod pins.
tool() {
    (cd e2e/tools && CGO_ENABLED=0 go build -buildvcs=false -o "$bin/$1" "$2") >"$bin/$1.log" 2>&1 && return
    # A tool of which not all could be fetched is an absent network; all else is a fault.
    if grep -qE 'dial tcp|no such host|i/o timeout|TLS handshake|connection refused|Bad Gateway|Forbidden' "$bin/$1.log"; then
        skipped "$1 cannot be fetched here, left out" || exit 1
        return 1
    fi
    cat "$bin/$1.log" >&2
    exit 1
}

if tool staticcheck honnef.co/go/tools/cmd/staticcheck; then
    for m in "${modules[@]}"; do
        (cd "$m" && "$bin/staticcheck" -tags soak ./...)
    done
fi

if tool govulncheck golang.org/x/vuln/cmd/govulncheck; then
    # Status 3 means found; 1 is trouble, which here is nearly always the network.
    status=0
    "$bin/govulncheck" ./... >"$bin/govulncheck.out" 2>&1 || status=$?
    case $status in
    0) ;;
    3)
        cat "$bin/govulncheck.out" >&2
        exit 1
        ;;
    *)
        if grep -qE 'fetching vulnerabilities|dial tcp|no such host|i/o timeout|connection refused|unexpected status' "$bin/govulncheck.out"; then
            skipped "govulncheck has no database of vulnerabilities here, left out" || exit 1
        else
            cat "$bin/govulncheck.out" >&2
            exit 1
        fi
        ;;
    esac
fi

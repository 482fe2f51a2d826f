#!/usr/bin/env bash
# Runs every fuzz target of the product, each for FUZZTIME, one after another.
# FUZZ narrows it to targets that match.
set -euo pipefail
cd "$(dirname "$0")/../.."

time=${FUZZTIME:-10s}
only=${FUZZ:-.}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# one PACKAGE TARGET
one() {
    echo "fuzz: $1 $2 for $time"
    if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 5s "$1" >"$log" 2>&1; then
        grep '^fuzz: elapsed' "$log" | tail -n 1 || true
        return 0
    fi
    # The go command now and then takes its own deadline for a failure. A real one names its input.
    if ! grep -q 'Failing input written' "$log" && grep -q 'context deadline exceeded' "$log"; then
        echo "fuzz: time was up"
        return 0
    fi
    cat "$log" >&2
    return 1
}

count=0
failed=()
while read -r pkg; do
    while read -r target; do
        count=$((count + 1))
        one "$pkg" "$target" || failed+=("$pkg $target")
    done < <(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' | grep -E "$only" || true)
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | grep .)

if [ "$count" -eq 0 ]; then
    echo "fuzz: found no targets" >&2
    exit 1
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "fuzz: $count targets, no failure"

#!/usr/bin/env bash
# A lock pins versions and hashes and nothing else: an address in it would tie every user to one
# package index, and a missing hash would let any file through.
set -euo pipefail
cd "$(dirname "$0")/.."

locks=(requirements.lock requirements-dev.lock .ci/scan.lock)
failed=0

if grep -nE '[a-z]+://|^ *-(i|f) |^ *--(index-url|extra-index-url|find-links|trusted-host)' "${locks[@]}"; then
    echo "These lines of a lock name an address. Remake the locks with: make lock" >&2
    failed=1
fi
for lock in "${locks[@]}"; do
    # A pinned line without a continuation has no hash below it.
    if grep -nE '^[A-Za-z0-9._-]+==[^\\]*$' "$lock"; then
        echo "These lines of $lock have no hash. Remake the locks with: make lock" >&2
        failed=1
    fi
done
exit "$failed"

#!/usr/bin/env bash
# Scans the Jobs and manifests (golden files of tests/deployments) with Checkov's policies for
# Kubernetes. Checkov lives in .venv-scan, for it can't share an environment with the project.
# `policy_scan.sh --lock` remakes the lock of that environment from scan.in.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=.ci/scan.lock
venv=.venv-scan
uv=.venv/bin/uv

# Policies that are not ours; everything else has to pass. (What Pod Security "restricted" asks is
# tested beside it, one by one.) Exceptions of a single manifest stand in its annotations.
not_ours=(
    CKV_K8S_15 # pull policy Always: tags are commits and never move, and a node may be cut off from the registry
    CKV_K8S_43 # image by digest: same, and people read a commit
    CKV_K8S_35 # secrets as files: boto3 and Prefect read theirs from the environment
    CKV_K8S_40 # user ids above 10000: 1000 is what the image and its volumes agree on; 999 is PostgreSQL's
)

if [ "${1:-}" = --lock ]; then
    exec "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command ".ci/policy_scan.sh --lock" .ci/scan.in -o "$lock"
fi

if ! cmp --silent "$lock" "$venv/lock"; then
    rm -rf "$venv"
    .venv/bin/python -m venv "$venv"
    # As in setup_environment.sh: pip knows indexes and certificates from configuration that uv does not read.
    "$uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$lock" ||
        "$venv/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$lock"
    cp "$lock" "$venv/lock"
fi

scan() {
    # Nothing is looked up or sent anywhere.
    "$venv/bin/checkov" --framework kubernetes --skip-download --quiet --compact \
        --skip-check "$(IFS=, && echo "${not_ours[*]}")" --directory "$1"
}

# A scan that finds nothing anywhere would pass, too: it must find fault with this one.
bad=$(mktemp -d)
trap 'rm -rf "$bad"' EXIT
cat >"$bad/pod.yaml" <<'POD'
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec: {hostNetwork: true, containers: [{name: bad, image: "bad:latest", securityContext: {privileged: true}}]}
POD
if scan "$bad" >/dev/null; then
    echo "The policy scan lets a privileged pod pass: it does not work." >&2
    exit 1
fi
scan tests/deployments/golden
echo "The policy scan found nothing."

#!/usr/bin/env bash
# Makes or updates .venv: a Python >= 3.11, everything in requirements-dev.lock with its hash checked,
# and this project itself in editable form. `make venv` runs it when a lock changed.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements-dev.lock
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300}     # PyTorch's wheels are large
export PIP_DISABLE_PIP_VERSION_CHECK=1
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME

is_suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

is_complete() {
    # Debian leaves ensurepip out; the CZI library has no wheels for Python 3.14 yet.
    "$1" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

find_python() {
    local test candidate
    for test in is_complete is_suitable; do
        for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
            if "$test" "$candidate"; then
                echo "$candidate"
                return
            fi
        done
    done
    echo "No Python >= 3.11 found. Install one, or name it: make venv PYTHON=/path/to/python3" >&2
    return 1
}

make_venv() {
    local python=$1
    rm -rf .venv
    if "$python" -m venv .venv >/dev/null 2>&1; then
        return
    fi
    # Debian and Ubuntu keep this part of the standard library in a package of its own.
    local package
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    rm -rf .venv
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing the Debian package $package, which '$python -m venv' needs"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
        "$python" -m venv .venv
    else
        echo "'$python -m venv' does not work. On Debian or Ubuntu: sudo apt install $package" >&2
        exit 1
    fi
}

install_uv() {
    # uv is pinned in the lock like everything else; only its own entry is installed with pip.
    local entry
    entry=$(mktemp)
    awk '/^uv==/ { inside = 1 } inside { print } inside && !/\\$/ { exit }' "$lock" >"$entry"
    .venv/bin/python -m pip install --quiet --require-hashes --no-deps -r "$entry"
    rm -f "$entry"
}

install_lock() {
    echo "Installing $(grep -c '^[a-z]' "$lock") pinned packages; PyTorch makes it several GB the first time"
    local quiet=""
    [ -t 2 ] || quiet=--quiet # without a terminal there is no progress bar, only a list of 200 names
    # shellcheck disable=SC2086 # no word if empty
    if .venv/bin/uv pip sync $quiet --python .venv/bin/python --require-hashes --compile-bytecode "$lock"; then
        return
    fi
    # pip knows package indexes, proxies and certificates from configuration that uv does not read.
    # The lock is complete, and deliberately lacks some dependencies (see [tool.uv]): no resolving.
    echo "uv could not install the lock; trying pip, which takes longer" >&2
    .venv/bin/python -m pip install --require-hashes --no-deps -r "$lock"
}

if ! is_suitable .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with $("$python" --version)"
    "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 14))' ||
        echo "CZI files can't be read with it: ZEISS's library wants Python 3.11 to 3.13 (make venv PYTHON=python3.13)"
    make_venv "$python"
fi
[ -x .venv/bin/uv ] || install_uv
install_lock
# setuptools comes from the lock, so nothing is downloaded to build the project.
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
echo "Ready: $(pwd)/.venv"

#!/usr/bin/env bash
# Builds the image and pushes it, with docker, podman or buildah; `make image`, `make push` and
# `make image-ttl` run it. Variables, of make or of the environment:
#   ENGINE         docker, podman or buildah (default: the first of them that works)
#   REGISTRY       where to push, such as registry.example.org/project; log in to it before
#   IMAGE          name of the image (default: pollen-viability-flows)
#   PLATFORM       system and processor of the cluster's nodes (default: linux/amd64); building for another
#                  processor than this computer's needs its emulation (QEMU's binfmt)
#   BASE_IMAGE     base to build on (default: see the Dockerfile)
#   CONSTRAINTS    file of pinned packages with hashes (default: requirements.lock)
#   PIP_CONF       pip's configuration for an index of your own; it does not stay in the image
#   SOURCE         address of the source code, for the image's label
#   BUILD_OPTIONS  more options for the engine's build
#   ALLOW_DIRTY=1  build what is not committed, for a try; it can't be pushed
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "$1" >&2
    exit 2
}

works() {
    case ${1##*/} in
        docker) "$1" info >/dev/null 2>&1 ;; # its client alone builds nothing
        *) command -v "$1" >/dev/null ;;
    esac
}

find_engine() {
    local candidate
    for candidate in ${ENGINE:-docker podman buildah}; do
        if works "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "No engine to build images works here (tried: ${ENGINE:-docker podman buildah}). Install one of \
docker, podman and buildah, start docker's daemon, or name another: make image ENGINE=/path/to/podman"
}

# The tag is the commit, so that a name always means the same content: `latest` would make clusters
# pull again and again, and nobody could tell what runs.
find_tag() {
    local commit
    commit=$(git rev-parse --short=12 HEAD 2>/dev/null) ||
        fail "The image is named after the git commit, and this is no git checkout. Clone the project with git."
    if [ -z "$(git status --porcelain)" ]; then
        echo "$commit"
    elif [ "${ALLOW_DIRTY:-}" = 1 ]; then
        echo "$commit-dirty"
    else
        git status --short >&2
        fail "These files are not committed, so no commit names what would be built. Commit them, or build \
for a try that can't be pushed: make image ALLOW_DIRTY=1"
    fi
}

build() {
    local name=$1 options=() secret=()
    case ${engine##*/} in
        podman) options=(--format docker --layers) ;; # only that format keeps the health command
        buildah) options=(--format docker --layers) ;;
    esac
    local variable
    for variable in BASE_IMAGE CONSTRAINTS SOURCE; do
        [ -z "${!variable:-}" ] || options+=(--build-arg "$variable=${!variable}")
    done
    [ -z "${PIP_CONF:-}" ] || secret=(--secret "id=pip.conf,src=$PIP_CONF")
    # The platform is named, because a computer with another processor would else build what no node can start.
    # shellcheck disable=SC2086 # several words are several options
    "$engine" build --platform "${PLATFORM:-linux/amd64}" ${options[@]+"${options[@]}"} ${secret[@]+"${secret[@]}"} \
        --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' pollen/__init__.py)" \
        --build-arg "REVISION=$(git rev-parse HEAD)${tag#"${tag%-dirty}"}" \
        ${BUILD_OPTIONS:-} --tag "$name" .
}

push() {
    case ${engine##*/} in
        buildah) "$engine" push "$1" "docker://$1" ;;
        *) "$engine" push "$1" ;;
    esac
}

refuse_dirty() {
    [ "$tag" = "${tag%-dirty}" ] || fail "What is not committed is not pushed. Commit first."
}

image=${IMAGE:-pollen-viability-flows}
case ${image##*/} in
    *:*) fail "IMAGE=$image: expected a name without a tag; the tag is the git commit." ;;
esac
engine=$(find_engine)
tag=$(find_tag)

case ${1:-} in
    build)
        name=${REGISTRY:+${REGISTRY%/}/}$image:$tag
        build "$name"
        echo "Built $name"
        ;;
    push)
        [ -n "${REGISTRY:-}" ] ||
            fail "Where to? make push REGISTRY=registry.example.org/project (log in there before: ${engine##*/} login)"
        refuse_dirty
        name=${REGISTRY%/}/$image:$tag
        build "$name"
        push "$name"
        printf 'Pushed %s\nBefore the next deploy: export POLLEN_IMAGE=%s\n' "$name" "$name"
        ;;
    ttl)
        refuse_dirty
        # A random part, because whoever knows the name can pull the image, or push another there.
        name=ttl.sh/$image-$tag-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n'):24h
        build "$name"
        push "$name"
        printf 'Pushed %s\nBefore the next deploy: export POLLEN_IMAGE=%s\n' "$name" "$name"
        echo "WARNING: ttl.sh deletes this image in 24 hours, and anybody who knows its name can pull it until then. \
Pods that start later end in ImagePullBackOff: use it for a try, and a registry of your own (make push) for all else." >&2
        ;;
    *)
        fail "Usage: $0 build|push|ttl"
        ;;
esac

# One image for everything in a cluster: flow runs with and without a GPU, workers, the Prefect
# server, `pollen setup` and `pollen doctor`. Build it with `make image`, which sets the arguments.
#
# The base needs python3 >= 3.11 with its venv module. If it lacks `tini` or the CA certificates,
# apt-get installs them. With a base of your own, no other registry is needed:
#   make image BASE_IMAGE=localhost/debian-python:bookworm
ARG BASE_IMAGE=docker.io/library/python:3.11.15-slim-bookworm


# -- The packages of the lock, in a virtual environment without pip ------------------------------
FROM ${BASE_IMAGE} AS packages

# Every package with version and hash. You may name another such file, for example one without CUDA.
ARG CONSTRAINTS=requirements.lock

WORKDIR /build
RUN python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "BASE_IMAGE: Python >= 3.11 expected, not " + sys.version)' \
    && python3 -m venv /build/installer \
    && python3 -m venv --without-pip /opt/venv
COPY ${CONSTRAINTS} /build/constraints.lock
# A package index of your own, with its password if it has one, is passed as a secret file that no
# layer keeps: make image PIP_CONF=$HOME/.config/pip/pip.conf
# Bytecode is compiled now, because Python can't write it on a read-only root; `unchecked`, so that it
# does not depend on times of files, which may change while layers are packed. Some packages have files
# that only a newer Python can compile; they are listed and do no harm. Then the large parts, which
# rarely change, are moved into separate layers, which are pulled in parallel, and only if they changed.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /build/installer/bin/pip --python /opt/venv/bin/python --disable-pip-version-check --no-input \
        --no-cache-dir install --require-hashes --no-deps --only-binary :all: --no-compile \
        --quiet --progress-bar off -r /build/constraints.lock \
    && { /opt/venv/bin/python -m compileall -q -j 0 -x '/tests/' --invalidation-mode unchecked-hash \
        /opt/venv/lib || true; } \
    && set -- /opt/venv/lib/python3*/site-packages && packages=$1 \
    && mkdir -p "/layers/cuda$packages" "/layers/torch$packages" \
    && for part in cuda/nvidia torch/torch torch/triton; do \
           if [ -d "$packages/${part#*/}" ]; then \
               mv "$packages/${part#*/}" "/layers/${part%%/*}$packages/"; \
           fi; \
       done


# -- This project, built with the setuptools of the lock: nothing is downloaded ---------------------
FROM packages AS project

COPY pyproject.toml README.md LICENSE /build/source/
COPY pollen /build/source/pollen
COPY tasks /build/source/tasks
COPY flows /build/source/flows
COPY services /build/source/services
RUN /build/installer/bin/pip --python /opt/venv/bin/python --disable-pip-version-check --no-input \
        install --no-index --no-deps --no-build-isolation --no-compile \
        --prefix /layers/project/opt/venv /build/source
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        -s /layers/project /layers/project/opt/venv/lib


# -- The image: no pip, no compiler, no cache -------------------------------------------------------
FROM ${BASE_IMAGE}

# tini, as process 1, passes signals on and reaps processes: any other process 1 would ignore SIGTERM.
RUN if ! command -v tini >/dev/null || ! [ -s /etc/ssl/certs/ca-certificates.crt ]; then \
        apt-get update -qq \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends tini ca-certificates \
        && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log; \
    fi \
    && { getent group 1000 >/dev/null || groupadd --gid 1000 appuser; } \
    && { getent passwd 1000 >/dev/null || useradd --uid 1000 --gid 1000 --home-dir /scratch/home \
        --no-create-home --shell /usr/sbin/nologin --no-log-init appuser; } \
    && install -d -o 1000 -g 1000 /scratch

COPY --from=packages /layers/cuda/ /
COPY --from=packages /layers/torch/ /
COPY --from=packages /opt/venv /opt/venv
COPY --from=project /layers/project/ /
COPY LICENSE prefect.yaml /opt/app/
COPY flows /opt/app/flows
COPY deployments /opt/app/deployments

# Everything is written below /scratch and /tmp: mount a volume at both, and make the rest read-only.
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    POLLEN_APP_DIR=/opt/app \
    HOME=/scratch/home \
    TMPDIR=/tmp \
    XDG_CACHE_HOME=/scratch/cache \
    POLLEN_CACHE_DIR=/scratch/cache \
    PREFECT_HOME=/scratch/prefect \
    MPLCONFIGDIR=/scratch/matplotlib \
    MPLBACKEND=Agg \
    YOLO_CONFIG_DIR=/scratch/ultralytics \
    YOLO_OFFLINE=true \
    YOLO_AUTOINSTALL=false \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# NVIDIA_VISIBLE_DEVICES is left to the device plugin: `all` would give GPUs to pods that requested none.

WORKDIR /opt/app
# As a number, so that Kubernetes can check that it is not root.
USER 1000:1000

# For `docker run` and podman; Kubernetes ignores it and uses the probes of the manifests.
HEALTHCHECK --interval=5m --timeout=60s --start-period=60s CMD ["python", "-m", "services.health"]

# Prefect's worker passes `prefect flow-run execute` as arguments; the script runs its arguments.
ENTRYPOINT ["tini", "--", "/opt/app/deployments/entrypoint.sh"]
CMD ["pollen", "--help"]

ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=""
ENV POLLEN_REVISION=${REVISION}
LABEL org.opencontainers.image.title="Pollen Viability Flows" \
      org.opencontainers.image.description="Counts stained viable and non-viable pollen grains in micrographs, from S3 to tables, as Prefect flows." \
      org.opencontainers.image.licenses="AGPL-3.0-only" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

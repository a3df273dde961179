# Everything a fresh machine needs is `make demo` or `make test`: both set up .venv first.

BIN := .venv/bin
STAMP := .venv/.up-to-date
# One more than the cores of CI: many tests wait for servers.
JOBS ?= 3
LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

# Where it is set, as in many containers, every process of a test compiles all of the project anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-quick lint format lock bench image push image-ttl clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## make or update .venv from the lock (PYTHON=... names an interpreter)

$(STAMP): requirements-dev.lock pyproject.toml .ci/setup_environment.sh
	@PYTHON="$(PYTHON)" .ci/setup_environment.sh
	@touch $@

demo: venv ## count sample micrographs over a real S3 and a real Prefect server, into demo-output/
	$(BIN)/pollen demo --output demo-output

# By file, for what a file shares; in the order of tests/conftest.py.
test: venv ## run the tests, some files at once (ARGS="-k name" for some of them, JOBS=0 for one by one)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-quick: venv ## run only the tests that need no server and are not slow (ARGS and JOBS as above)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not server and not slow" $(ARGS)

lint: venv ## check style, types, the floors, the deployments and the locks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.deployment_lint
	.ci/check_locks.sh

format: venv ## format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: venv ## remake the locks after a change of pyproject.toml (UPGRADE=1 also takes newer versions)
	$(BIN)/uv pip compile $(LOCK_FLAGS) pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(LOCK_FLAGS) --extra embedded --extra dev -c requirements.lock \
		pyproject.toml -o requirements-dev.lock
	.ci/check_locks.sh

bench: venv ## measure speed and memory, figures side by side
	$(BIN)/python -m benchmarks

image: ## build the image, named after the commit (ENGINE=docker|podman|buildah; more in .ci/image.sh)
	@.ci/image.sh build

push: ## build the image and push it (REGISTRY=registry.example.org/project)
	@.ci/image.sh push

image-ttl: ## build the image and push it to ttl.sh, for a try: it is public and vanishes after 24 hours
	@.ci/image.sh ttl

clean: ## remove .venv, caches and what the demo made
	rm -rf .venv .venv-scan demo-output build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

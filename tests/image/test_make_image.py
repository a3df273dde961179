"""`make image`, `make push` and `make image-ttl`: names, refusals, and what the engine is told.

No container engine runs here: a script that writes down its arguments stands for it. What the
Dockerfile does is tested in `test_installed.py`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

RECORDER = """#!/bin/sh
printf '%s\\n' "$*" >> "$RECORD"
"""


class Checkout:
    """A small git checkout with this project's Makefile, and an engine that writes down its calls."""

    def __init__(self, folder: Path, engine: str = "podman") -> None:
        self.folder = folder / "checkout"
        self.engine = folder / "bin" / engine
        self.record = folder / "calls"
        for name in ("Makefile", ".ci/image.sh", "pollen/__init__.py"):
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target)
        self.engine.parent.mkdir()
        self.engine.write_text(RECORDER)
        self.engine.chmod(0o755)
        self.git("init", "-q")
        self.commit()

    def git(self, *arguments: str) -> str:
        author = (
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
            "-c",
            "commit.gpgsign=false",
        )
        told = subprocess.run(
            ["git", *author, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return told.stdout.strip()

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", "all")

    def make(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["make", "--no-print-directory", *arguments, f"ENGINE={self.engine}"],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "RECORD": str(self.record)},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []

    @property
    def tag(self) -> str:
        return self.git("rev-parse", "--short=12", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_image_is_named_after_the_commit(checkout: Checkout) -> None:
    told = checkout.make("image", "BASE_IMAGE=localhost/base:1", "BUILD_OPTIONS=--pull=never")

    assert told.returncode == 0, told.stderr
    (call,) = checkout.calls()
    assert f"--tag pollen-viability-flows:{checkout.tag} ." in call
    assert f"--build-arg REVISION={checkout.git('rev-parse', 'HEAD')} " in call
    assert "--build-arg VERSION=0." in call
    assert "--build-arg BASE_IMAGE=localhost/base:1" in call
    assert "--pull=never" in call
    assert "CONSTRAINTS" not in call
    assert "--secret" not in call
    assert f"Built pollen-viability-flows:{checkout.tag}" in told.stdout


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_it_is_built_for_the_processor_of_the_nodes(tmp_path: Path, engine: str) -> None:
    checkout = Checkout(tmp_path, engine=engine)

    assert checkout.make("image").returncode == 0
    assert checkout.make("image", "PLATFORM=linux/arm64").returncode == 0

    usual, other = [call for call in checkout.calls() if call.startswith("build ")]
    assert " --platform linux/amd64 " in usual
    assert " --platform linux/arm64 " in other
    assert "amd64" not in other


def test_the_configuration_of_an_index_is_a_secret_and_no_argument(checkout: Checkout) -> None:
    assert checkout.make("image", "PIP_CONF=/home/me/pip.conf").returncode == 0

    (call,) = checkout.calls()
    assert "--secret id=pip.conf,src=/home/me/pip.conf" in call


def test_what_is_pushed_is_what_was_built_and_its_name_is_told(checkout: Checkout) -> None:
    told = checkout.make("push", "REGISTRY=registry.example.org/lab/", "IMAGE=pollen")

    assert told.returncode == 0, told.stderr
    name = f"registry.example.org/lab/pollen:{checkout.tag}"
    build, push = checkout.calls()
    assert build.endswith(f"--tag {name} .")
    assert push == f"push {name}"
    assert f"export POLLEN_IMAGE={name}" in told.stdout


def test_buildah_is_told_where_to_push(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, engine="buildah")

    assert checkout.make("push", "REGISTRY=registry.example.org/lab").returncode == 0

    name = f"registry.example.org/lab/pollen-viability-flows:{checkout.tag}"
    assert checkout.calls()[-1] == f"push {name} docker://{name}"


@pytest.mark.parametrize("target", ["image", "push", "image-ttl"])
@pytest.mark.parametrize("dirt", ["pollen/__init__.py", "new.py"])
def test_a_tree_that_no_commit_names_is_refused(checkout: Checkout, target: str, dirt: str) -> None:
    with (checkout.folder / dirt).open("a") as file:
        file.write("\n")

    told = checkout.make(target, "REGISTRY=registry.example.org/lab")

    assert told.returncode != 0
    assert dirt in told.stderr
    assert "not committed" in told.stderr
    assert not checkout.calls()


def test_a_try_from_such_a_tree_is_marked_and_can_t_be_pushed(checkout: Checkout) -> None:
    (checkout.folder / "new.py").touch()

    assert checkout.make("image", "ALLOW_DIRTY=1").returncode == 0
    (call,) = checkout.calls()
    assert f":{checkout.tag}-dirty ." in call
    assert f"REVISION={checkout.git('rev-parse', 'HEAD')}-dirty" in call
    for target in ("push", "image-ttl"):
        told = checkout.make(target, "ALLOW_DIRTY=1", "REGISTRY=registry.example.org/lab")
        assert told.returncode != 0
        assert "Commit first" in told.stderr
    assert len(checkout.calls()) == 1


def test_a_push_to_nowhere_and_a_tag_of_one_s_own_are_refused(checkout: Checkout) -> None:
    nowhere = checkout.make("push")
    tagged = checkout.make("image", "IMAGE=pollen:latest")

    assert nowhere.returncode != 0
    assert "make push REGISTRY=" in nowhere.stderr
    assert tagged.returncode != 0
    assert "without a tag" in tagged.stderr
    assert not checkout.calls()


def test_ttl_sh_gets_a_name_nobody_guesses_and_a_warning(checkout: Checkout) -> None:
    first, second = checkout.make("image-ttl"), checkout.make("image-ttl")

    assert first.returncode == second.returncode == 0
    names = [call.removeprefix("push ") for call in checkout.calls() if call.startswith("push ")]
    assert len(set(names)) == 2
    for name in names:
        assert name.startswith(f"ttl.sh/pollen-viability-flows-{checkout.tag}-")
        assert name.endswith(":24h")
    assert "24 hours" in first.stderr
    assert "ImagePullBackOff" in first.stderr


def test_without_an_engine_it_says_what_to_install(checkout: Checkout) -> None:
    checkout.engine.unlink()

    told = checkout.make("image")

    assert told.returncode != 0
    assert "Install one of docker, podman and buildah" in told.stderr


def test_an_engine_that_fails_fails_the_target(checkout: Checkout) -> None:
    checkout.engine.write_text("#!/bin/sh\nexit 3\n")

    told = checkout.make("push", "REGISTRY=registry.example.org/lab")

    assert told.returncode != 0
    assert "Pushed" not in told.stdout

"""No secret in the tree, nor in what a build of the image is given."""

import subprocess
from pathlib import Path

import pytest

from tests.support.dockerfile import context
from tests.support.runs import REPOSITORY
from tests.support.scanning import secrets_in

#: Nothing but names, versions and hashes, as `.ci/check_locks.sh` sees to; they take long.
LOCKS = {"requirements.lock", "requirements-dev.lock"}

#: Invented for tests. A new one is easily told from a real one if it is one of these.
MADE_UP = {
    "wrong",
    "s3cr3t",
    "s3cr3t-of-the-lab",
    "AKIAEXAMPLE",
    "correct-horse-battery",
    "of-the-laboratory",
    "83f5b0fdd0c3e6d1a8ad7e4a4e1e3f8a",
}


def test_neither_the_tree_nor_what_a_build_is_given_holds_a_secret() -> None:
    told = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    tree, image = set(told.stdout.splitlines()), context()
    assert len(tree) > 100
    assert {"pollen/bundled/model.json", "deployments/site.yaml"} <= image
    names = sorted((tree | image) - LOCKS)

    files = (path for name in names if (path := REPOSITORY / name).exists())

    assert not secrets_in(files, MADE_UP), "one that is made up belongs into MADE_UP"


@pytest.mark.parametrize(
    "line",
    [
        "AWS_ACCESS_KEY_ID=" + "AKIA" + "QYLPMN5HFIQR7XYA",
        "secret_key = '" + "wJalrXUtnFEMI" + "K7MDENGbPxRfiCYzq1x'",
        "PREFECT_API_AUTH_STRING: 'https://admin:" + "hunter2hunter2@prefect.example.org'",
        "-----BEGIN " + "RSA PRIVATE KEY-----",
        "token: '" + "8f3a91c07be54d2d9a61'",
    ],
)
def test_a_secret_would_be_found(tmp_path: Path, line: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"bucket: pollen\n{line}\n")

    assert secrets_in([file])

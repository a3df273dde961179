"""A training killed again and again, each time elsewhere, ends as a whole model."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pollen.layout import CHECKPOINTS, MODELS
from services.embedded import EmbeddedS3
from tasks.storage.store import open_store
from tests.support.labelled import export
from tests.support.runs import REPOSITORY, bucket_folder

EPOCHS = 4

#: Where each run but the last dies: behind which change of which key.
MOMENTS = (
    ("create", "versions/000001.json"),  # the manifest is there, the zip not archived
    ("write_file", "/files/"),  # in the middle of the first checkpoint
    ("write", "epoch-000001.json"),
    ("write_file", "/files/"),  # in the middle of another one
    ("delete", "epoch-000001.json"),  # while old ones are deleted
    ("write", f"epoch-{EPOCHS:06d}.json"),  # trained, nothing measured
    ("write", "/evaluation.html"),  # in the middle of publishing
    ("create", "/model.json"),  # published, not promoted
)

_TRAIN = """
import logging, sys
from flows.train import make_model
from tasks.storage.store import Location
from tests.support.training import request_below, train_settings

def train():
    logging.getLogger("pollen").setLevel(logging.INFO)
    settings = train_settings(epochs=int(sys.argv[2]))
    summary = make_model(request_below(Location.parse(sys.argv[1]), settings=settings))
    print(summary.outcome, summary.version)
"""
#: The last run is left alone: it starts anew, as after a kill, and its interpreter ends by itself.
_LAST = _TRAIN + "train()"
#: Imports once and forks a child per moment. Each child dies by SIGKILL, as at the hands of an out-of-memory killer:
#: nothing is tidied up.
_KILLED = (
    _TRAIN
    + """
import json, os, signal
import openvino, torch, ultralytics
from tasks.storage.buckets import BucketStore

def die_after(kind, part):
    delete = BucketStore.delete
    def dying(call):
        def changed(self, key, *arguments):
            result = call(self, key, *arguments)
            if part in (key if isinstance(key, str) else "".join(key)):
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return changed
    def one_by_one(self, keys):
        for key in keys:
            delete(self, [key])
            if kind == "delete" and part in key:
                os.kill(os.getpid(), signal.SIGKILL)
    BucketStore.delete = one_by_one
    if kind != "delete":
        setattr(BucketStore, kind, dying(getattr(BucketStore, kind)))

for kind, part in json.loads(sys.argv[3]):
    print("run", file=sys.stderr, flush=True)
    child = os.fork()
    if not child:
        die_after(kind, part)
        train()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != -signal.SIGKILL:
        sys.exit(f"{kind} {part} ended with {code}")
"""
)


def program(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow(seconds=90)
@pytest.mark.timeout(900)  # nine trainings, each in processes of its own
def test_a_training_killed_anywhere_goes_on_and_ends_whole(
    s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path))  # what killed runs leave there
    store = open_store(bucket_folder("train/killed"))
    store.write("staging_area/labelled.zip", export())
    killed = program(_KILLED, store.address, str(EPOCHS), json.dumps(MOMENTS))
    assert killed.returncode == 0, killed.stderr  # each died at its moment
    assert killed.stdout == ""
    last = program(_LAST, store.address, str(EPOCHS))
    assert last.returncode == 0, last.stderr
    logs = [*re.split(r"^run$", killed.stderr, flags=re.MULTILINE)[1:], last.stderr]
    trained = [tuple(map(int, re.findall(r"epoch (\d+) of", log))) for log in logs]
    assert len(trained) == len(MOMENTS) + 1

    # Each run goes on behind the last whole checkpoint: no epoch is trained more than twice.
    assert trained[0] == ()
    assert trained[2:] != [()] * len(trained[2:])
    epochs = sorted(epoch for run in trained for epoch in run)
    assert set(epochs) == set(range(1, EPOCHS + 1))
    assert all(epochs.count(epoch) <= 2 for epoch in epochs[1:])
    outcome, version = last.stdout.split()[-2:]
    assert outcome == "Completed"  # promoted by the last run, though published by the one before
    keys = {entry.key for entry in store.list()}
    assert f"{MODELS}{version}/model.json" in keys
    assert f"{MODELS}promotions/000001.json" in keys
    table = store.read(f"{MODELS}{version}/results.csv").decode()
    assert [row["epoch"] for row in csv.DictReader(io.StringIO(table))] == ["1", "2", "3", "4"]
    assert not [key for key in keys if key.startswith("staging_area/l")]
    assert not [key for key in keys if key.startswith(CHECKPOINTS)]
    assert f"{MODELS}{version}/claim.zip" not in keys

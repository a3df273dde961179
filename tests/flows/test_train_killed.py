"""A training killed again and again, each time elsewhere, ends as a whole model."""

import csv
import io
import re
import signal
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

#: Where each run dies: behind which change of which key. The last one is left alone.
MOMENTS = (
    ("create", "versions/000001.json"),  # the manifest is there, the zip not archived
    ("write_file", "/files/"),  # in the middle of the first checkpoint
    ("write", "epoch-000001.json"),
    ("write_file", "/files/"),  # in the middle of another one
    ("delete", "epoch-000001.json"),  # while old ones are deleted
    ("write", f"epoch-{EPOCHS:06d}.json"),  # trained, nothing measured
    ("write", "/evaluation.html"),  # in the middle of publishing
    ("create", "/model.json"),  # published, not promoted
    (None, ""),
)

#: Dies by SIGKILL, as at the hands of an out-of-memory killer: nothing is tidied up.
_DRIVER = """
import logging, os, signal, sys
from flows.train import make_model
from tasks.storage.buckets import BucketStore
from tasks.storage.store import Location
from tests.support.training import request_below, train_settings

root, kind, part, epochs = sys.argv[1:]

def dying(call):
    def changed(self, key, *arguments):
        result = call(self, key, *arguments)
        if part in (key if isinstance(key, str) else "".join(key)):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return changed

if kind != "None":
    delete = BucketStore.delete
    def one_by_one(self, keys):
        for key in keys:
            delete(self, [key])
            if kind == "delete" and part in key:
                os.kill(os.getpid(), signal.SIGKILL)
    BucketStore.delete = one_by_one
    if kind != "delete":
        setattr(BucketStore, kind, dying(getattr(BucketStore, kind)))
logging.getLogger("pollen").setLevel(logging.INFO)
summary = make_model(
    request_below(Location.parse(root), settings=train_settings(epochs=int(epochs)))
)
print(summary.outcome, summary.version)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # nine trainings, each in processes of its own
def test_a_training_killed_anywhere_goes_on_and_ends_whole(
    s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path))
    store = open_store(bucket_folder("train/killed"))
    store.write("staging_area/labelled.zip", export())
    trained: list[tuple[int, ...]] = []
    for kind, part in MOMENTS:
        run = subprocess.run(
            [sys.executable, "-c", _DRIVER, store.address, str(kind), part, str(EPOCHS)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert run.returncode == (0 if kind is None else -signal.SIGKILL), f"{part}: {run.stderr}"
        trained.append(tuple(map(int, re.findall(r"epoch (\d+) of", run.stderr))))

    # Each run goes on behind the last whole checkpoint: no epoch is trained more than twice.
    assert trained[0] == ()
    assert trained[2:] != [()] * len(trained[2:])
    epochs = sorted(epoch for run in trained for epoch in run)
    assert set(epochs) == set(range(1, EPOCHS + 1))
    assert all(epochs.count(epoch) <= 2 for epoch in epochs[1:])
    outcome, version = run.stdout.split()[-2:]
    assert outcome == "Completed"  # promoted by the last run, though published by the one before
    keys = {entry.key for entry in store.list()}
    assert f"{MODELS}{version}/model.json" in keys
    assert f"{MODELS}promotions/000001.json" in keys
    table = store.read(f"{MODELS}{version}/results.csv").decode()
    assert [row["epoch"] for row in csv.DictReader(io.StringIO(table))] == ["1", "2", "3", "4"]
    assert not [key for key in keys if key.startswith("staging_area/l")]
    assert not [key for key in keys if key.startswith(CHECKPOINTS)]
    assert f"{MODELS}{version}/claim.zip" not in keys

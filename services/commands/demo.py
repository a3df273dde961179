"""`pollen demo`: the whole system on synthetic pictures, with real servers on this computer."""

import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from prefect.client.schemas.objects import State
from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket
from pydantic import SecretStr

from flows.detect import detect_here
from pollen.errors import PollenError
from pollen.layout import ANNOTATED, INPUTS, RECORDS, RESULTS
from pollen.synth import write_samples
from services.commands.shared import show_outcome
from services.console import ProgressView, remark, say, say_error, set_up_logging
from services.embedded import EmbeddedPrefect, EmbeddedS3, EmbeddedServerError
from services.exit_codes import COULD_NOT_RUN
from tasks.detection.summary import Summary
from tasks.progress import watched_by
from tasks.storage.folders import FolderStore
from tasks.storage.store import Location, Store, open_store

BUCKET = "pollen"
ROOT = "Pollen_viability"
#: Folders that are copied from the bucket, and replaced in the output folder by the next demo.
COPIED = (INPUTS, ANNOTATED, RESULTS)
#: Marks a folder that a demo made, whose content may be replaced.
MARKER = "made-by-pollen-demo.txt"


def run_demo(output: Path) -> int:
    """Run the demo and leave its results in `output`; return the exit code."""
    set_up_logging(verbose=False)
    if not _is_free(output):
        say_error(f"{output} is not empty, and no demo made it: name a new folder with --output")
        return COULD_NOT_RUN
    try:
        with ExitStack() as servers:
            summary = _count_samples(servers)
            _copy_results(open_store(Location(block=BUCKET)), output)
    except (PollenError, EmbeddedServerError) as error:
        say_error(str(error))
        return COULD_NOT_RUN
    code = show_outcome(summary)
    say(f"Tables, report and pictures: {output.absolute()}")
    return code


def _is_free(output: Path) -> bool:
    """Return whether the folder is new, empty, or from an earlier demo."""
    if not output.exists():
        return True
    return output.is_dir() and ((output / MARKER).is_file() or not any(output.iterdir()))


def _count_samples(servers: ExitStack) -> Summary:
    """Start the servers, upload sample pictures, run the flow."""
    remark("starting an S3 server and a Prefect server on this computer ...")
    with (
        ThreadPoolExecutor() as pool,
        tempfile.TemporaryDirectory(prefix="pollen-demo-") as scratch,
    ):
        prefect: Future[EmbeddedPrefect] = pool.submit(servers.enter_context, EmbeddedPrefect())
        s3 = servers.enter_context(EmbeddedS3([BUCKET]))
        pictures = write_samples(Path(scratch))
        client = s3.client()
        for picture in pictures:
            key = picture.relative_to(scratch).as_posix()
            client.upload_file(str(picture), BUCKET, f"{ROOT}/{INPUTS}{key}")
        remark(f"uploaded {len(pictures)} synthetic pictures")
        servers.enter_context(prefect.result().active())
    _save_block(s3)
    with ProgressView() as view, watched_by(view):
        root = Location(block=BUCKET)
        state = cast("State[Summary]", detect_here(root.below(INPUTS), root, return_state=True))
    if not state.is_completed():
        raise PollenError(state.message or "the flow run failed")
    return state.result()


def _save_block(s3: EmbeddedS3) -> None:
    """Save the block that names the bucket to the flow."""
    environment = s3.environment()
    S3Bucket(
        bucket_name=BUCKET,
        bucket_folder=ROOT,
        credentials=AwsCredentials(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SecretStr(environment["AWS_SECRET_ACCESS_KEY"]),
            region_name=environment.get("AWS_DEFAULT_REGION", "us-east-1"),
            aws_client_parameters=AwsClientParameters(endpoint_url=s3.endpoint_url),
        ),
    ).save(BUCKET, overwrite=True)


def _copy_results(store: Store, output: Path) -> None:
    """Copy what a person wants to see from the bucket; replace the results of an older demo."""
    target = FolderStore(output)
    target.write(
        MARKER, b"Made by `pollen demo`; the next demo replaces the content of this folder.\n"
    )
    for folder in COPIED:
        shutil.rmtree(target.path(folder), ignore_errors=True)
        for entry in store.list(folder):
            if not entry.key.startswith(RECORDS):
                target.write(entry.key, store.read(entry.key))

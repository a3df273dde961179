"""The `pollen` command: its words and options.

A command imports heavy libraries only when it runs, so that help is quick.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from services.command_line import models, run

app = typer.Typer(
    name="pollen",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Counts viable and non-viable pollen grains in micrographs of Alexander-stained pollen.",
    epilog="Exit codes: 0 done, 1 done but some pictures failed or some exports were refused (they are listed), "
    "2 could not run.",
)

app.add_typer(models.app, name="models")
app.add_typer(run.app, name="run")


@app.callback()
def _commands() -> None:
    """Make every command a subcommand."""


@app.command()
def detect(
    source: Annotated[str, typer.Argument(help="Folder with pictures, or s3://bucket/prefix.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder for the results, or s3://bucket/prefix.")
    ],
    model: Annotated[
        str,
        typer.Option(
            help="production, bundled, the version of a published model, or the path of a .pt file."
        ),
    ] = "production",
    edge_rule: Annotated[
        Literal["frame", "exclude", "all"],
        typer.Option(
            help="frame: exclude grains that touch the right or bottom side; exclude: any side; all: count every grain."
        ),
    ] = "frame",
    shards: Annotated[
        int, typer.Option(min=1, help="Number of runs that share the work on a cluster.")
    ] = 1,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any other setting, such as grain_diameter_px=92."
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(help="Saved S3Bucket block whose credentials are used for s3:// addresses."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
) -> None:
    """Count the grains in all pictures of a folder or bucket.

    Pictures that were already counted with the same model and settings are not counted again.

    For example: pollen detect pictures --output results

    or: pollen detect s3://lab/2026 --output s3://lab/results --edge-rule all
    """
    from services.commands.detect import run_detection

    sys.exit(
        run_detection(
            source,
            output,
            model=model,
            shards=shards,
            settings=[f"edge_rule={edge_rule}", *(setting or ())],
            block=block,
            verbose=verbose,
        )
    )


@app.command()
def train(
    dataset: Annotated[
        str,
        typer.Argument(help="Folder with train/, val/ and test/, or s3://bucket/datasets/name."),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Folder or s3:// address that holds trained_models/, where the model is published.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="Model to start from: bundled (the default), production, a published version, the path of a .pt file, "
            "or an architecture such as yolov8n-seg.yaml for random weights (the default with recipe=bundled)."
        ),
    ] = None,
    staging: Annotated[
        str | None,
        typer.Option(
            help="Folder or s3:// address of exports (zips of labelled pictures) to merge."
        ),
    ] = None,
    debris: Annotated[
        str | None, typer.Option(help="Folder or s3:// address of pictures of debris.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train again even if the same training was done before.")
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting, such as epochs=50 or gate.min_grains=200.",
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(help="Saved S3Bucket block whose credentials are used for s3:// addresses."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
) -> None:
    """Train a model on labelled pictures, evaluate it, and publish it.

    Run the same command again to resume a training that was stopped.

    For example: pollen train datasets/pollen --output . --set epochs=50
    """
    from services.commands.train import TrainingPlaces, run_training

    places = TrainingPlaces(dataset, output, staging, debris, block)
    sys.exit(run_training(places, base=base, fresh=fresh, settings=setting or (), verbose=verbose))


dataset_app = typer.Typer(no_args_is_help=True, help="Check labelled pictures.")
app.add_typer(dataset_app, name="dataset")


@dataset_app.command("check")
def check_dataset(
    path: Annotated[
        Path, typer.Argument(help="An export (the zip of a labelling tool), or a folder.")
    ],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting, such as unsure=cover."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
) -> None:
    """Check labelled pictures before you upload them for training, and list what is wrong.

    Exit codes: 0 no problems, 1 usable, but some findings need attention, 2 it would be refused.
    """
    from services.commands.dataset import run_check

    sys.exit(run_check(path, setting or (), verbose=verbose))


@app.command()
def setup(
    config: Annotated[
        Path | None,
        typer.Option(help="Site file. Default: deployments/site.yaml of this checkout."),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(help="Bucket of the laboratory; replaces the one in the site file."),
    ] = None,
    folder: Annotated[
        str | None, typer.Option(help="Folder in the bucket; replaces the one in the site file.")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Address of the S3 server; replaces the one in the site file. If neither names one, a new block uses "
            "AWS_ENDPOINT_URL."
        ),
    ] = None,
    pools: Annotated[
        Literal["kubernetes", "process"] | None,
        typer.Option(help="Type of all work pools; replaces the types in the site file."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, but change nothing.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
) -> None:
    """Set up a Prefect server: blocks, work pools, limits, automations, the first model in production.

    It shows the changes, then makes them. Run it again after the first deploy, to
    make what refers to deployments. After that, it changes nothing until the site
    file changes.

    For example: pollen setup --dry-run
    """
    from services.commands.setup import run_setup
    from services.site import Overrides

    overrides = Overrides(bucket=bucket, folder=folder, endpoint_url=endpoint, pools=pools)
    sys.exit(run_setup(config, overrides, dry_run=dry_run, verbose=verbose))


@app.command()
def doctor(
    run: Annotated[
        str | None,
        typer.Argument(
            help="Name or id of a flow run to explain. Without it, everything is checked."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Site file. Default: deployments/site.yaml of this checkout."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
) -> None:
    """Check storage, Prefect, the cluster and the model: what is wrong, and what to do about it.

    Exit codes: 0 nothing is wrong, 1 something needs attention, 2 something will not work.
    """
    from services.commands.doctor import run_doctor

    sys.exit(run_doctor(run, config, as_json=as_json, verbose=verbose))


@app.command()
def events(
    config: Annotated[
        Path | None,
        typer.Option(help="Site file. Default: deployments/site.yaml of this checkout."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8080,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
) -> None:
    """Start runs when pictures are uploaded: receive notifications from the storage until stopped.

    The storage sends notifications to /events, with the token from
    POLLEN_EVENTS_TOKEN as "Authorization: Bearer ...", as the last part of the
    address (/events/<token>), or as opaque data (Ceph). The receiver speaks plain
    HTTP: if senders are outside the cluster, put an Ingress or a proxy with TLS
    in front of it. /status shows the state of the receiver to requests with the
    token in the header.

    For example: POLLEN_EVENTS_TOKEN=$(openssl rand -hex 32) pollen events --port 8080
    """
    from services.commands.events import run_events

    sys.exit(run_events(config, host, port, verbose=verbose))


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for tables, report and pictures.")
    ] = Path("demo-output"),
) -> None:
    """Show the whole system: count synthetic pictures in a real S3 server, with a real Prefect flow.

    Both servers run on this computer, and only while the demo runs.
    """
    from services.commands.demo import run_demo

    sys.exit(run_demo(output))


def main() -> None:
    """Entry point of the `pollen` command."""
    # Prefect's client library reports its use unless this is set before its import.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    app()

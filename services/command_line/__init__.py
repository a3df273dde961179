"""The `pollen` command. Heavy libraries are imported by the commands that need them: help is quick."""

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
    """Make every command a subcommand, even while there is only one."""


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
            help="frame: leave out grains touching the right or bottom side; exclude: any side; all: none."
        ),
    ] = "frame",
    shards: Annotated[
        int, typer.Option(min=1, help="How many runs share the work on a cluster.")
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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
) -> None:
    """Count the grains in all pictures of a folder or bucket.

    Pictures that were counted before, with the same model and settings, are not counted again.

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
        typer.Option("--output", "-o", help="Root of the registry: trained_models/ goes below it."),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="What training starts from: bundled (the default), production, a published version, the path of a "
            ".pt file, or yolov8n-seg.yaml and the like for random weights (the default with recipe=bundled)."
        ),
    ] = None,
    staging: Annotated[
        str | None,
        typer.Option(help="Folder or s3:// address of labelled exports (zips) to merge."),
    ] = None,
    debris: Annotated[
        str | None, typer.Option(help="Folder or s3:// address of pictures of debris.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train once more although this was trained before.")
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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
) -> None:
    """Train a model on labelled pictures, measure it, and publish it.

    A training that is stopped goes on where it was when the same command is given again.

    For example: pollen train datasets/pollen --output . --set epochs=50
    """
    from services.commands.train import TrainingPlaces, run_training

    places = TrainingPlaces(dataset, output, staging, debris, block)
    sys.exit(run_training(places, base=base, fresh=fresh, settings=setting or (), verbose=verbose))


dataset_app = typer.Typer(no_args_is_help=True, help="Look after labelled pictures.")
app.add_typer(dataset_app, name="dataset")


@dataset_app.command("check")
def check_dataset(
    path: Annotated[
        Path, typer.Argument(help="A zip as exported by the labelling tool, or a folder.")
    ],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting, such as unsure=cover."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
) -> None:
    """Check labelled pictures before they are staged, and say in plain words what is wrong.

    Exit codes: 0 nothing to do, 1 it can be used but something wants a look, 2 it would be refused.
    """
    from services.commands.dataset import run_check

    sys.exit(run_check(path, setting or (), verbose=verbose))


@app.command()
def setup(
    config: Annotated[
        Path | None,
        typer.Option(help="What is to be set up. Default: deployments/site.yaml of this checkout."),
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(help="Bucket of the laboratory, in place of the file's.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(help="Folder in it that is the root, in place of the file's.")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Address of the S3 server, in place of the file's. Without either, a new block takes AWS_ENDPOINT_URL."
        ),
    ] = None,
    pools: Annotated[
        Literal["kubernetes", "process"] | None,
        typer.Option(help="Kind of the work pools that are missing, in place of the file's."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be changed.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
) -> None:
    """Set up a Prefect server: blocks, work pools, limits, automations, the first model in production.

    Shows what it will change, then changes it. Give it once more after the first deploy: it then makes what refers to
    deployments. After that nothing is left to change.

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
            help="Name or id of a flow run to explain. Without it everything is looked at."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="What was set up. Default: deployments/site.yaml of this checkout."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
) -> None:
    """Find out what is wrong, and what to do about it: storage, Prefect, cluster, model.

    Exit codes: 0 nothing is wrong, 1 something wants a look, 2 something will not work.
    """
    from services.commands.doctor import run_doctor

    sys.exit(run_doctor(run, config, as_json=as_json, verbose=verbose))


@app.command()
def events(
    config: Annotated[
        Path | None,
        typer.Option(help="What was set up. Default: deployments/site.yaml of this checkout."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8080,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")] = False,
) -> None:
    """Start runs when pictures are uploaded: receive what the storage tells, until stopped.

    Storages send to /events and give the secret that stands in POLLEN_EVENTS_TOKEN, as "Authorization: Bearer ...",
    as the last part of the address (/events/<token>), or as opaque data (Ceph). This speaks plain HTTP: where senders
    are not in the same cluster, put an Ingress or a proxy with TLS in front. /status shows how it goes, to who gives
    the secret in the header.

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
    """Show everything at work: count made-up micrographs in a real S3 server, by a real Prefect flow.

    Both servers run on this computer only, and only for as long as the demo takes.
    """
    from services.commands.demo import run_demo

    sys.exit(run_demo(output))


def main() -> None:
    """Entry point of the `pollen` command."""
    # Prefect's client library reports its use unless told not to, and reads this at import.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    app()

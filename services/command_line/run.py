"""`pollen run`: its words and options. What a command does is imported only when it runs."""

import sys
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Start a detection or a training on the Prefect server (for example on a cluster), and watch it.",
    epilog="Exit codes with --watch: 0 done, 1 done but some pictures failed, 2 the run failed, was cancelled or found "
    "no pictures. Without --watch: 0 started, 2 could not be started.",
)

Bucket = Annotated[
    str | None,
    typer.Option(metavar="BLOCK", help="Saved S3Bucket block. Default: the one of the deployment."),
]
Prefix = Annotated[
    str | None,
    typer.Option(help="Folder below the folder of the block: another laboratory or project."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, such as device=cpu."),
]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Show state, log and progress until the run ends.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")]


@app.command()
def detect(
    bucket: Bucket = None,
    prefix: Prefix = None,
    model: Annotated[
        str | None, typer.Option(help="production, bundled, or the version of a published model.")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Number of runs that share the counting.")
    ] = None,
    setting: Settings = None,
    deployment: Annotated[
        str, typer.Option(metavar="NAME", help="The deployment to start.")
    ] = "detect/on-demand",
    watch: Watch = False,
    verbose: Verbose = False,
) -> None:
    """Count the grains in all new pictures of the laboratory's bucket.

    For example: pollen run detect --watch

    or: pollen run detect --prefix plot7 --shards 4 --set edge_rule=all --watch
    """
    from services.commands.run import run_deployed
    from services.runs.orders import detection

    given = {"bucket": bucket, "prefix": prefix, "model": model, "shards": shards}
    sys.exit(
        run_deployed(
            lambda: detection(deployment, given, setting or ()), watch=watch, verbose=verbose
        )
    )


@app.command()
def train(
    bucket: Bucket = None,
    prefix: Prefix = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the dataset below datasets/.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Model to start from: bundled, production, or a published version."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train again even if the same training was done before.")
    ] = False,
    setting: Settings = None,
    deployment: Annotated[
        str, typer.Option(metavar="NAME", help="The deployment to start.")
    ] = "train/on-demand",
    watch: Watch = False,
    verbose: Verbose = False,
) -> None:
    """Train a model on the laboratory's dataset and new exports, evaluate it, and publish it.

    For example: pollen run train --set epochs=50 --set gate.min_grains=200 --watch
    """
    from services.commands.run import run_deployed
    from services.runs.orders import training

    given = {
        "bucket": bucket,
        "prefix": prefix,
        "dataset": dataset,
        "base": base,
        "fresh": fresh or None,
    }
    sys.exit(
        run_deployed(
            lambda: training(deployment, given, setting or ()), watch=watch, verbose=verbose
        )
    )


@app.command("watch")
def watch_run(
    run: Annotated[str, typer.Argument(help="Name or id of a flow run.")],
    verbose: Verbose = False,
) -> None:
    """Watch a run that was started earlier, until it ends.

    For example: pollen run watch wise-otter
    """
    from services.commands.run import watch_again

    sys.exit(watch_again(run, verbose=verbose))

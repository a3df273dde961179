"""`pollen models`: what the commands are called; what they do is imported only when they run."""

import sys
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Published models: list them, show one, put one into production, go back.",
    epilog="Exit codes: 0 done (also where nothing was to be changed), 2 could not run.",
)

Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="PLACE",
        help="Folder or s3://bucket/prefix that holds trained_models/. "
        "May be left out with --block: then it is the block's own folder.",
    ),
]
Block = Annotated[
    str | None,
    typer.Option(
        "--block", metavar="NAME", help="Saved S3Bucket block whose credentials are used."
    ),
]
Note = Annotated[
    str, typer.Option("--note", metavar="TEXT", help="Why; kept with the promotion for others.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell every step.")]


@app.command("list")
def list_all(root: Root = None, block: Block = None, verbose: Verbose = False) -> None:
    """List all models, how good they are, and which one is in production."""
    from services.commands.models import print_list

    sys.exit(print_list(root, block, verbose=verbose))


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A version from the list, 'production' or 'bundled'.")
    ] = "production",
    root: Root = None,
    block: Block = None,
    verbose: Verbose = False,
) -> None:
    """Show one model: its card, its figures, and when it was promoted."""
    from services.commands.models import print_one

    sys.exit(print_one(name, root, block, verbose=verbose))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version from the list, or 'bundled'.")],
    root: Root = None,
    block: Block = None,
    note: Note = "",
    verbose: Verbose = False,
) -> None:
    """Put a model into production: from the next run on, detection uses it.

    Its weights are checked first. Nothing is overwritten: the change is one more numbered entry.
    """
    from services.commands.models import order_promotion

    sys.exit(order_promotion(version, root, block, note=note, verbose=verbose))


@app.command()
def rollback(
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="VERSION", help="Back to this version, promoted before."),
    ] = None,
    root: Root = None,
    block: Block = None,
    note: Note = "",
    verbose: Verbose = False,
) -> None:
    """Go back to the model that was in production before; once more, and it is the one before that."""
    from services.commands.models import order_rollback

    sys.exit(order_rollback(to, root, block, note=note, verbose=verbose))

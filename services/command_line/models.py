"""The commands of `pollen models`; their bodies are imported only when they run."""

import sys
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="List the published models, show one, put one into production, or go back to an earlier one.",
    epilog="Exit codes: 0 done (also if nothing had to change), 2 could not run.",
)

Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="PLACE",
        help="Folder or s3://bucket/prefix that holds trained_models/. With --block it may be left out: then it is the "
        "block's own folder.",
    ),
]
Block = Annotated[
    str | None,
    typer.Option(
        "--block", metavar="NAME", help="Saved S3Bucket block whose credentials are used."
    ),
]
Note = Annotated[
    str,
    typer.Option(
        "--note", metavar="TEXT", help="The reason; stored with the promotion for others to read."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print every step.")]


@app.command("list")
def list_all(root: Root = None, block: Block = None, verbose: Verbose = False) -> None:
    """List all models with their main figures, and show which one is in production."""
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
    """Show one model: its card, its figures and its promotions."""
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
    """Put a model into production: detection uses it from the next run on.

    Its weights are checked first. Nothing is overwritten: each change is a new numbered entry.
    """
    from services.commands.models import order_promotion

    sys.exit(order_promotion(version, root, block, note=note, verbose=verbose))


@app.command()
def rollback(
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="VERSION", help="Go back to this version, which was promoted before."
        ),
    ] = None,
    root: Root = None,
    block: Block = None,
    note: Note = "",
    verbose: Verbose = False,
) -> None:
    """Go back to the model that was in production before; repeat it to go further back."""
    from services.commands.models import order_rollback

    sys.exit(order_rollback(to, root, block, note=note, verbose=verbose))

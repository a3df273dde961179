"""Open an export: a folder or a zip."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pollen.dataset.exports.trees import FolderTree, Tree, TreeError
from pollen.dataset.exports.zips import ZipTree
from pollen.dataset.settings import Limits


@contextmanager
def open_tree(path: Path, limits: Limits, name: str | None = None) -> Iterator[Tree]:
    """Open a folder or a zip.

    Args:
        path: The folder or zip.
        limits: Limits on its content.
        name: The name in findings; by default its file name.

    Raises:
        TreeError: If there is nothing at the path, or it can't be read.
    """
    try:
        if path.is_dir():
            tree: FolderTree | ZipTree = FolderTree(path, name)
        elif path.is_file():
            tree = ZipTree(path, limits, name)
        else:
            raise TreeError(f"there is neither a folder nor a zip at {path}: check the path")
    except OSError as error:
        raise TreeError(f"{path} can't be read ({error.strerror}): check its rights") from error
    with tree if isinstance(tree, ZipTree) else nullcontext():
        yield tree

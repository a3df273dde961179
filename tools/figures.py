"""Figures of the house: sizes, names and wording, counted over the syntax trees.

Run `python -m tools.figures [FOLDER]` to see whether the rooms stay small and the names clear.
"""

import argparse
import ast
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FLOORS: Final = ("pollen", "tasks", "flows", "services")
#: More files than this in one folder are a corridor, not a room.
LARGEST_ROOM: Final = 15
#: Docstrings that begin so describe a value in riddles; "Return ..." says what a function does.
RIDDLES: Final = frozenset({"What", "Whether", "Where", "How", "Who", "Which", "As"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Figures:
    """What was counted over the modules of the product."""

    lines: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    broad_handlers: int = 0
    docstrings: int = 0
    riddles: int = 0
    classes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    files: Counter[Path] = field(default_factory=Counter)
    names: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))


def count(root: Path) -> Figures:
    """Count over all modules of the product below `root`."""
    figures = Figures()
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            _count_module(path, root, floor, figures)
    return figures


def _count_module(path: Path, root: Path, floor: str, figures: Figures) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    figures.lines.append(len(text.splitlines()))
    if path.name != "__init__.py":
        figures.files[path.parent.relative_to(root)] += 1
        figures.names[floor, path.name].append(str(path.relative_to(root)))
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.end_lineno is not None:
            figures.functions.append(node.end_lineno - node.lineno + 1)
        if isinstance(node, ast.ClassDef):
            figures.classes[node.name].append(str(path.relative_to(root)))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node):
            figures.broad_handlers += 1
        if isinstance(node, Function | ast.ClassDef | ast.Module):
            _count_docstring(ast.get_docstring(node), figures)


def _is_broad(handler: ast.ExceptHandler) -> bool:
    kind = handler.type
    return kind is None or (
        isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")
    )


def _count_docstring(text: str | None, figures: Figures) -> None:
    if not text:
        return
    figures.docstrings += 1
    figures.riddles += text.split(maxsplit=1)[0].rstrip(":,.") in RIDDLES


def report(figures: Figures) -> Iterator[str]:
    """Yield the figures as lines of text."""
    functions = sorted(figures.functions)
    yield (
        f"{len(figures.lines)} modules, {sum(figures.lines)} lines; "
        f"median {statistics.median(figures.lines):g} lines"
    )
    yield (
        f"{len(functions)} functions: median {statistics.median(functions):g}, "
        f"90 % at most {functions[int(0.9 * len(functions))]}, longest {functions[-1]} lines"
    )
    yield f"{figures.broad_handlers} broad handlers"
    yield f"{figures.riddles} of {figures.docstrings} docstrings begin with a question word"
    for folder, number in sorted(figures.files.items()):
        if number > LARGEST_ROOM:
            yield f"more than {LARGEST_ROOM} files in {folder}: {number}"
    for (_, name), places in sorted(figures.names.items()):
        if len(places) > 1:
            yield f"one name, {len(places)} files: {name} ({', '.join(places)})"
    for name, places in sorted(figures.classes.items()):
        if len(places) > 1:
            yield f"one name, {len(places)} classes: {name} ({', '.join(places)})"


def main() -> None:
    """Print the figures of the product below a folder."""
    parser = argparse.ArgumentParser(description="Figures of the house")
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    for line in report(count(parser.parse_args().folder)):
        print(line)  # noqa: T201  (what it is for)


if __name__ == "__main__":
    main()

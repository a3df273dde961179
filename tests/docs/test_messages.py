"""The pages for readers quote messages of the program as they are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import REPOSITORY

#: Quotations of other programs, and of messages that are put together from parts.
OTHERS = {
    "violates PodSecurity",
    "maximum memory usage per Container is ...",
    "cannot unmarshal number",
    "database is locked",
    "... may not: create jobs, ...",
    "pool 'gpu' has no GPUs, and its settings lack device: cpu",
    "database prefect-database-0 does not run",
    "there is no deployment 'detect-shard/gpu'",
}
PAGES = [REPOSITORY / "docs" / name for name in ("cluster.md", "operator.md", "training.md")]


def texts(module: Path) -> Iterator[str]:
    """Yield the texts in a module; what is filled in when it runs is left out."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield "".join(map(str, parts))


@pytest.fixture(scope="module")
def messages() -> str:
    floors = ("pollen", "tasks", "flows", "services")
    modules = [path for floor in floors for path in (REPOSITORY / floor).rglob("*.py")]
    automations = (REPOSITORY / "deployments" / "automations").glob("*.yaml")
    found = [text for module in modules for text in texts(module)]
    found += [path.read_text(encoding="utf-8") for path in automations]
    return "\n".join(" ".join(text.split()) for text in found)


def quoted(page: Path) -> list[str]:
    """Return what the rows of tables of a page quote."""
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [text for row in rows for text in re.findall(r'"([^"]+)"', row)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quotations_in_tables_are_messages_of_the_program(page: Path, messages: str) -> None:
    unknown = [
        text
        for text in quoted(page)
        if text not in OTHERS
        and any(part.strip(" .,") not in messages for part in re.split(r"\.\.\.|…", text))
    ]
    assert unknown == []


def test_the_tables_quote_messages() -> None:
    assert all(len(quoted(page)) > 10 for page in PAGES[:2])

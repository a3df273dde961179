"""The Dockerfile as data, and the files that a build would be given."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from docker.utils.build import exclude_paths  # type: ignore[import-untyped]

from tests.support.runs import REPOSITORY


@dataclass(frozen=True)
class Instruction:
    """One instruction: its keyword in capitals, and the rest with continued lines joined."""

    keyword: str
    value: str


@dataclass(frozen=True)
class Stage:
    """What stands between a FROM and the next."""

    name: str
    instructions: tuple[Instruction, ...]

    def values(self, keyword: str) -> list[str]:
        """Values of all instructions with this keyword, in order."""
        return [one.value for one in self.instructions if one.keyword == keyword]

    def environment(self) -> dict[str, str]:
        """What its ENV instructions set, with references as they are written."""
        pairs = [pair.split("=", 1) for value in self.values("ENV") for pair in shlex.split(value)]
        return dict(pairs)

    def copied(self) -> list[tuple[list[str], str]]:
        """Sources and target of each COPY from the build context."""
        found = []
        for value in self.values("COPY"):
            if not value.startswith("--from="):
                *sources, target = value.split()
                found.append((sources, target))
        return found


def stages(dockerfile: Path = REPOSITORY / "Dockerfile") -> list[Stage]:
    """Read a Dockerfile; what stands before the first FROM is a stage without a name."""
    found: list[Stage] = []
    collected: list[Instruction] = []
    name = ""
    for instruction in _instructions(dockerfile.read_text(encoding="utf-8")):
        if instruction.keyword == "FROM":
            found.append(Stage(name, tuple(collected)))
            collected = []
            name = _stage_name(instruction.value)
        collected.append(instruction)
    return [*found, Stage(name, tuple(collected))]


def context(folder: Path = REPOSITORY) -> set[str]:
    """Files below a folder that a build would be given, by Docker's reading of .dockerignore."""
    patterns = (folder / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line.strip() for line in patterns if line.strip() and not line.startswith("#")]
    return {path for path in exclude_paths(str(folder), rules) if not Path(folder, path).is_dir()}


def _stage_name(value: str) -> str:
    match = re.search(r"\sAS\s+(\S+)$", value, re.IGNORECASE)
    return match[1] if match else "image"


def _instructions(text: str) -> list[Instruction]:
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        Instruction(keyword.upper(), re.sub(r"\s+", " ", value).strip())
        for keyword, value in (line.split(maxsplit=1) for line in joined.splitlines())
    ]

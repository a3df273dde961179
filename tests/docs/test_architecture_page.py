"""The page on architecture names stages that exist, in the order in which the flows call them."""

import ast
import re
import tomllib

import pytest

import flows.detect
import flows.train
from tests.support.runs import REPOSITORY

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
#: What the story of detection calls through a function of `tasks`, and the flow that a shard is.
OTHERS = {
    "compact_records": "tasks/detection/planning.py",
    "detect_batch": "tasks/detection/batch.py",
    "detect-shard": "flows/detect.py",
    "write_plan": "tasks/cluster/shard_plans.py",
}


def stages(section: str) -> list[str]:
    """Return the names in the chain of stages below a heading."""
    chain = PAGE.split(f"\n## {section}\n")[1].split("```")[1]
    steps = [step for line in chain.splitlines() for step in line.split("→")]
    return [
        re.sub(r"^.*: +|\(.*\)| \W.*", "", step.strip()).strip() for step in steps if step.strip()
    ]


def test_stages_exist() -> None:
    for section, flow in (
        ("One run of detection", flows.detect),
        ("Training", flows.train),
        ("On a cluster", flows.detect),
    ):
        named = stages(section)
        assert len(named) > 5
        for name in named:
            if name in OTHERS:
                assert name in (REPOSITORY / OTHERS[name]).read_text(encoding="utf-8")
            else:
                assert callable(getattr(flow, name, None)), name


def test_stages_of_a_training_stand_in_the_order_of_the_flow() -> None:
    tree = ast.parse((REPOSITORY / "flows" / "train.py").read_text(encoding="utf-8"))
    # By their ends: what is an argument of another call is called first.
    ends = {
        node.func.id: (node.end_lineno, node.end_col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    places = [ends[name] for name in stages("Training")]
    assert places == sorted(places)


@pytest.mark.parametrize("floor", ["pollen", "tasks", "services"])
def test_rooms_are_drawn_in_the_order_of_the_contracts(floor: str) -> None:
    rules = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = rules["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == [floor])
    depth = {room: n for n, layer in enumerate(layers) for room in re.findall(r"\w+", layer)}
    drawing = PAGE.split(f"subgraph {floor}[")[1].split("end\n")[0]
    (chain,) = (line for line in drawing.splitlines() if "-->" in line)
    steps = [re.findall(r"\w+", re.sub(r"\[.*\]|\bt_", "", step)) for step in chain.split("-->")]
    depths = [{depth[room] for room in step} for step in steps]
    assert depths == sorted(depths, key=min)
    assert all(len(each) == 1 for each in depths)  # rooms side by side are of one layer
    rooms = {path.parent.name for path in (REPOSITORY / floor).glob("*/__init__.py")} - {"bundled"}
    assert rooms <= {room for step in steps for room in step}

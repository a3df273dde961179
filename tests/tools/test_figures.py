from pathlib import Path

from tools.figures import count, report


def test_what_is_counted(tmp_path: Path) -> None:
    for name, text in {
        "pollen/one/grain.py": '"""What a grain is."""\n\nclass Grain:\n    """A grain."""\n',
        "pollen/two/grain.py": "class Grain:\n    pass\n\n"
        "def f():\n    try:\n        pass\n    except Exception:\n        pass\n",
        "tasks/stage.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lines = list(report(count(tmp_path)))
    assert lines[0] == "3 modules, 12 lines; median 4 lines"
    assert lines[1].startswith("1 functions: median 5")
    assert "1 broad handlers" in lines
    assert "1 of 2 docstrings begin with a question word" in lines
    assert "one name, 2 files: grain.py (pollen/one/grain.py, pollen/two/grain.py)" in lines
    assert "one name, 2 classes: Grain (pollen/one/grain.py, pollen/two/grain.py)" in lines


def test_a_folder_of_many_files_is_named(tmp_path: Path) -> None:
    for number in range(16):
        path = tmp_path / "tasks" / f"stage_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("def f():\n    pass\n")
    assert "more than 15 files in tasks: 16" in list(report(count(tmp_path)))

"""The namespace comes from where this program runs."""

from pathlib import Path

import pytest
import yaml

from services.namespace import current_namespace


def kubeconfig(folder: Path, context: dict[str, str], current: str = "lab") -> Path:
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": current,
                "contexts": [{"name": "lab", "context": context}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    return path


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"cluster": "c", "user": "u", "namespace": "stenc-ns"}, "stenc-ns"),
        ({"cluster": "c", "user": "u"}, None),
    ],
)
def test_of_the_current_context(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    context: dict[str, str],
    expected: str | None,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, context)))
    assert current_namespace() == expected


def test_of_the_pod_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, {"namespace": "other"})))
    (tmp_path / "namespace").write_text("stenc-ns\n")
    assert current_namespace(tmp_path / "namespace") == "stenc-ns"


@pytest.mark.parametrize("content", ["", "current-context: gone\ncontexts: []", "{"])
def test_none_where_the_kubeconfig_says_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert current_namespace() is None


def test_none_where_there_is_no_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert current_namespace() is None
    assert not caplog.records

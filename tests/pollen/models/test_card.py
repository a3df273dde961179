"""Cards: read, refused, and held against the weights."""

from pathlib import Path

import pytest

from pollen.models.card import CARD_NAME, ModelCard, ModelError, check_weights, sha256_of

WEIGHTS = b"not really weights"
DIGEST = "83f5b0fdd0c3e6d1a8ad7e4a4e1e3f8a" * 2


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    path.write_bytes(WEIGHTS)
    return path


def test_a_card_beside_its_weights_speaks_for_them(weights: Path) -> None:
    card = ModelCard(version="v7", sha256=sha256_of(weights), confidence=0.4)
    weights.with_name(CARD_NAME).write_text(card.model_dump_json())
    assert ModelCard.of_file(weights) == card


def test_a_card_of_other_weights_is_passed_over(weights: Path) -> None:
    weights.with_name(CARD_NAME).write_text(
        ModelCard(version="v7", sha256=DIGEST).model_dump_json()
    )
    card = ModelCard.of_file(weights)
    assert card.version == f"file-{sha256_of(weights)[:12]}"
    assert card.sha256 == sha256_of(weights)


def test_weights_without_a_card_get_defaults(weights: Path) -> None:
    assert ModelCard.of_file(weights).working_scale == 1


def test_altered_weights_are_refused(weights: Path) -> None:
    card = ModelCard.of_file(weights)
    check_weights(weights, card)
    weights.write_bytes(WEIGHTS + b"!")
    with pytest.raises(ModelError, match=r"altered or damaged.*They were not loaded"):
        check_weights(weights, card)


def test_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't be read.*check the path"):
        sha256_of(tmp_path / "gone.pt")


@pytest.mark.parametrize("text", ["", "{}", '{"version": "../x", "sha256": "00"}', "[1]"])
def test_an_unusable_card_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / CARD_NAME
    path.write_text(text)
    with pytest.raises(ModelError, match="not a usable model card"):
        ModelCard.read(path)


def test_a_missing_card_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing beside the weights"):
        ModelCard.read(tmp_path / CARD_NAME)


@pytest.mark.parametrize("version", ["a/b", "..", "", "-x", "x" * 65])
def test_versions_are_safe_names_of_folders(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        ModelCard(version=version, sha256=DIGEST)

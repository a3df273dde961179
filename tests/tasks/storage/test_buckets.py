"""Links to objects: what a browser is sent to, and what is never in it."""

from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from tasks.storage.buckets import BucketStore
from tasks.storage.folders import FolderStore

Style = Literal["auto", "path", "virtual"]


def store_at(endpoint: str | None, prefix: str = "lab 1", style: Style = "auto") -> BucketStore:
    """A store below a server that nobody asks anything."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="of-the-laboratory",
        aws_secret_access_key="of-the-laboratory",
        config=Config(s3={"addressing_style": style}),
    )
    return BucketStore(client, "pollen", prefix)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:8333", "http://127.0.0.1:8333/pollen/lab%201/a.csv"),
        ("https://s3.example.org/", "https://s3.example.org/pollen/lab%201/a.csv"),
        ("https://example.org/s3/", "https://example.org/s3/pollen/lab%201/a.csv"),
        ("https://[::1]:9000", "https://[::1]:9000/pollen/lab%201/a.csv"),
        (None, "https://s3.eu-central-1.amazonaws.com/pollen/lab%201/a.csv"),
    ],
)
@pytest.mark.parametrize("style", ["auto", "path", "virtual"])
def test_objects_are_linked_below_their_server(
    endpoint: str | None, expected: str, style: Style
) -> None:
    assert store_at(endpoint, style=style).link("a.csv") == expected


def test_no_name_password_key_or_signature_is_in_a_link() -> None:
    store = store_at("https://ann:p%40ss@s3.example.org:9000/x?token=hidden#part")
    link = store.link("a.csv")
    assert link == "https://s3.example.org:9000/x/pollen/lab%201/a.csv"


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_key_is_one_word_that_leads_to_it_alone(key: str) -> None:
    link = STORE.link(key)
    parts = urlsplit(link)
    assert parts.netloc == "s3.example.org"
    assert unquote(parts.path) == f"/pollen/{key}"
    assert not parts.query + parts.fragment
    assert not set(link) & set("()[]<>|`\\\"' \n")


STORE = store_at("https://s3.example.org", prefix="")


def test_a_folder_has_no_links(tmp_path: Path) -> None:
    assert not FolderStore(tmp_path).link("a.csv")

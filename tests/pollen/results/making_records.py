"""Inputs and records for tests of what is made of them."""

import polars as pl
from hypothesis import strategies as st

from pollen.columns import IMAGE_RECORD
from pollen.results.records import INPUTS


def inputs(*pairs: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame([(*pair, 1) for pair in pairs], schema=INPUTS, orient="row")


def record(key: str, version: str = "1", batch: str = "b", **values: object) -> dict[str, object]:
    row = {
        "key": key,
        "version": version,
        "filename": key,
        "status": "ok",
        "reason": "",
        "transient": False,
        "viable": 3,
        "non_viable": 1,
        "total_detected": 5,
        "batch": batch,
        "committed_ms": 1,
    }
    return row | values


def failed(key: str, **values: object) -> dict[str, object]:
    empty = {"status": "failed", "reason": "broke off", "transient": True, "viable": None}
    return record(key) | empty | {"non_viable": None, "total_detected": None} | values


def records(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=IMAGE_RECORD)


histories = st.lists(
    st.builds(
        lambda key, version, batch, transient, time: (failed if transient else record)(
            key, version=version, batch=f"{batch}-{key}-{version}", committed_ms=time
        ),
        st.sampled_from("abc"),
        st.sampled_from("12"),
        st.sampled_from("xyz"),
        st.booleans(),
        st.integers(1, 3),
    ),
    max_size=12,
    unique_by=lambda row: row["batch"],
)
listings = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"))

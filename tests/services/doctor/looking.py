"""How tests look at a cluster as the doctor does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.doctor.checking import About, collect
from services.doctor.cluster_access import Access, find_access
from services.doctor.finding import Category, Finding
from services.site import Site, SitePool

SITE = Site(
    pools={
        "gpu": SitePool(variables={"image_pull_secrets": [{"name": "registry"}]}),
        "cpu": SitePool(),
    }
)


def reached(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    found = find_access()
    assert found is not None
    return found


def looked(check: AsyncIterator[Finding]) -> list[Finding]:
    """What a check finds, run as the doctor runs it."""
    found: list[Finding] = []
    asyncio.run(collect(About(Category.CLUSTER), "it", check, found))
    return found


def one(findings: list[Finding], part: str) -> Finding:
    """The finding that says something."""
    (found,) = (finding for finding in findings if part in finding.summary)
    return found

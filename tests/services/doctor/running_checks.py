"""Run single checks of a cluster as the doctor does."""

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


def access_to(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    found = find_access()
    assert found is not None
    return found


def findings_of(check: AsyncIterator[Finding]) -> list[Finding]:
    """Run a check as the doctor does; return its findings."""
    found: list[Finding] = []
    asyncio.run(collect(About(Category.CLUSTER), "it", check, found))
    return found


def one(findings: list[Finding], part: str) -> Finding:
    """Return the one finding with a text in its summary."""
    (found,) = (finding for finding in findings if part in finding.summary)
    return found

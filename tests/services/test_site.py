"""The site file: what it says arrives, what it can't say is one clear error without the value."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pollen.errors import PollenError
from services.setup.pools import pool_template
from services.site import Events, Overrides, Site, SitePool, deployments_folder, read_site

NOTHING = Overrides()
SHIPPED = Path(__file__).parents[2] / "deployments" / "site.yaml"


def _site(folder: Path, text: str, overrides: Overrides = NOTHING) -> Site:
    path = folder / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return read_site(path, overrides)


def _examples(text: str) -> Iterator[dict[str, Any]]:
    """The settings that a site file shows as comments (``  # name: value``), each as a file of its own."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = re.match(r"( *)(# )?([\w-]+):(?: |$)", line)
        if found is None or (found[2] and not found[1]):
            continue
        above = [each for each in above if each[0] < len(found[1])]
        if not found[2]:
            above.append((len(found[1]), found[3]))
            continue
        example = yaml.safe_load(line.replace("# ", "", 1))
        for _, section in reversed(above):
            example = {section: example}
        yield example


def _fits_the_templates(site: Site) -> None:
    for name, pool in site.pools.items():
        assert pool_template(name, pool)


def test_the_file_of_the_repository_can_be_used() -> None:
    """Whatever an engineer has said in it: it is theirs."""
    _fits_the_templates(read_site(SHIPPED))


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    site = _site(tmp_path, "# nothing yet\n")
    assert site == Site()
    assert site.storage.block == "pollen"
    assert site.prefixes == ("",)
    assert site.pools == {"gpu": SitePool(), "cpu": SitePool()}


def test_the_comments_of_the_repository_s_file_name_real_settings(tmp_path: Path) -> None:
    for example in _examples(SHIPPED.read_text(encoding="utf-8")):
        site = _site(tmp_path, yaml.safe_dump(example))
        _fits_the_templates(site)


def test_comments_that_show_settings_are_found(tmp_path: Path) -> None:
    """In the words of the file, with settings of an engineer's beside them."""
    text = (
        "# Prose: not a setting\n"
        "storage:\n"
        "  # Name of the block, and\n"
        "  bucket: images\n"
        "  # bucket: my-bucket\n"
        "  # folder: Ostatni/Pollen_viability\n"
        "pools:\n"
        "  gpu:\n"
        "    # concurrency_limit: 4  # runs at once\n"
        "    variables: {gpu_count: 0}\n"
        "      # node_selector: {gpu-model: a100}\n"
        "  cpu:\n"
        "    variables:\n"
        "      # memroy_limit: 24Gi\n"
        "kubernetes:\n"
        "  # namespace: stenc-ns\n"
    )
    *right, misspelt, namespace = _examples(text)
    assert right == [
        {"storage": {"bucket": "my-bucket"}},
        {"storage": {"folder": "Ostatni/Pollen_viability"}},
        {"pools": {"gpu": {"concurrency_limit": 4}}},
        {"pools": {"gpu": {"variables": {"node_selector": {"gpu-model": "a100"}}}}},
    ]
    assert namespace == {"kubernetes": {"namespace": "stenc-ns"}}
    with pytest.raises(PollenError, match="memroy_limit"):
        _fits_the_templates(_site(tmp_path, yaml.safe_dump(misspelt)))


def test_what_the_file_says_arrives(tmp_path: Path) -> None:
    site = _site(
        tmp_path,
        "storage: {block: lab, bucket: images, folder: /a/b/, endpoint_url: 'https://s3.example.org/'}\n"
        "prefixes: [one/, two]\n"
        "pools: {gpu-mig: {template: gpu, variables: {gpu_resource: nvidia.com/mig-1g.10gb}}}\n"
        "recovery: {requeues: 0}\n",
    )
    assert site.storage.folder == "a/b"
    assert site.storage.endpoint_url == "https://s3.example.org"
    assert site.prefixes == ("one", "two")
    assert list(site.pools) == ["gpu-mig"]
    assert site.pools["gpu-mig"].template == "gpu"
    assert site.recovery.requeues == 0
    assert site.recovery.pending_minutes == Site().recovery.pending_minutes


def test_a_run_that_waits_is_ended_before_its_place_is_given_to_another(tmp_path: Path) -> None:
    deployments = yaml.safe_load((SHIPPED.parents[1] / "prefect.yaml").read_text())["deployments"]
    places = [each["concurrency_limit"] for each in deployments if "concurrency_limit" in each]
    longest = 55
    assert 60 * longest < min(place["grace_period_seconds"] for place in places)
    site = _site(tmp_path, f"recovery: {{pending_minutes: {longest}}}\n")
    assert site.recovery.pending_minutes == longest
    with pytest.raises(PollenError, match=r"pending_minutes.* 55"):
        _site(tmp_path, f"recovery: {{pending_minutes: {longest + 1}}}\n")


def test_what_it_says_of_uploads_and_messages_arrives(tmp_path: Path) -> None:
    site = _site(
        tmp_path,
        "events: {quiet_seconds: 5, sweep_minutes: 15, sqs_queue: 'https://sqs.example.org/1/up/'}\n"
        "notifications:\n"
        "  to: [{block: slack-webhook/lab}, {block: custom-webhook/x, about: [models]}]\n",
    )
    assert site.events == Events(
        quiet_seconds=5, sweep_minutes=15, sqs_queue="https://sqs.example.org/1/up"
    )
    everything, models = site.notifications.to
    assert everything.about == ("failed", "failed_images", "models", "silence")
    assert (models.block, models.about) == ("custom-webhook/x", ("models",))
    assert site.notifications.silent_days == 3


def test_sections_with_nothing_but_comments_say_nothing(tmp_path: Path) -> None:
    assert _site(tmp_path, "events:\nnotifications:\n  # silent_days: 5\n") == Site()


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    text = "storage: {bucket: images, folder: a, region: eu}\npools: {p: {concurrency_limit: 3}}\n"
    overrides = Overrides("other", "", "http://127.0.0.1:8333", "process")
    site = _site(tmp_path, text, overrides)
    assert site.storage.bucket == "other"
    assert site.storage.folder == ""
    assert site.storage.endpoint_url == "http://127.0.0.1:8333"
    assert site.storage.region == "eu"
    assert site.pools == {"p": SitePool(type="process", concurrency_limit=3)}


def test_variables_for_a_job_template_go_with_the_kind_of_pool_they_are_for(tmp_path: Path) -> None:
    text = "pools: {k: {variables: {x: 1}}, p: {type: process, variables: {y: 2}}}"
    site = _site(tmp_path, text, Overrides(pools="process"))
    assert site.pools["k"] == SitePool(type="process")
    assert site.pools["p"] == SitePool(type="process", variables={"y": 2})


def test_what_neither_says_stays_unsaid(tmp_path: Path) -> None:
    """A saved block keeps its folder unless a folder is said, be it the empty one."""
    text = "storage: {bucket: images}"
    assert "folder" not in _site(tmp_path, text).storage.model_fields_set
    assert "folder" in _site(tmp_path, text, Overrides(folder="")).storage.model_fields_set


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("storage: {buckte: images}", "'storage.buckte' is not a setting"),
        ("recovery: {requeues: -1}", "recovery.requeues: "),
        ("recovery: {zombie_minutes: 2}", "recovery.zombie_minutes: "),
        ("recovery: {restart_minutes: 3}", "recovery.restart_minutes: "),
        ("storage: {bucket: s3://images/a}", "storage.bucket: expected the bare name"),
        ("storage: {endpoint_url: s3.example.org}", "storage.endpoint_url: expected an address"),
        ("storage: {block: My Block}", "storage.block: "),
        ("prefixes: []", "prefixes: "),
        ("prefixes: [a, a/]", "prefixes: a root is named twice"),
        ("pools: {gpu: {type: docker}}", "pools.gpu.type: "),
        ("events: {sweep_minutes: 1}", "events.sweep_minutes: "),
        ("events: {quiet_seconds: 0}", "events.quiet_seconds: "),
        (
            "events: {quiet_seconds: 60, longest_wait_seconds: 30}",
            "events: longest_wait_seconds is less than quiet_seconds",
        ),
        ("events: {check_exports: maybe}", "events.check_exports: "),
        ("events: {token: x}", "'events.token' is not a setting"),
        ("events: {sqs_queue: uploads}", "events.sqs_queue: expected an address"),
        ("notifications: {to: [{block: lab}]}", "notifications.to.0.block: "),
        ("notifications: {to: [{block: slack-webhook/lab, about: []}]}", "to.0.about: "),
        ("notifications: {to: [{block: slack-webhook/lab, about: [all]}]}", "to.0.about.0: "),
        ("notifications: {to: slack-webhook/lab}", "notifications.to: "),
        ("notifications: {silent_days: 0}", "notifications.silent_days: "),
        ("- a list", "the file: "),
        ("storage: {block: [\n", "is not valid YAML"),
    ],
)
def test_what_can_not_be_used_is_named_with_file_and_field(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(PollenError) as caught:
        _site(tmp_path, text)
    assert expected in str(caught.value)
    assert str(tmp_path / "site.yaml") in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "storage: {aws_secret_access_key: s3cr3t}",
        "storage: {endpoint_url: 'https://key:s3cr3t@s3.example.org'}",
        "storage: {endpoint_url: 'https://s3.example.org/?X-Amz-Signature=s3cr3t'}",
        "pools: {gpu: {token: s3cr3t}}",
        "notifications: {to: [{block: 'https://hooks.slack.com/services/s3cr3t'}]}",
        "notifications: {to: [{url: 'https://hooks.slack.com/services/s3cr3t'}]}",
        "events: {sqs_queue: 'https://key:s3cr3t@sqs.example.org/1/up'}",
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(PollenError) as caught:
        _site(tmp_path, text)
    assert "s3cr3t" not in str(caught.value)


def test_an_override_that_can_not_be_used_names_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(PollenError, match=r"the command line and .*: storage\.bucket: "):
        _site(tmp_path, "", Overrides(bucket="s3://images"))


def test_a_file_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(PollenError, match=r"site\.yaml does not exist: name the file"):
        read_site(tmp_path / "site.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"storage: {folder: \xe9t\xe9}")
    with pytest.raises(PollenError, match=r"latin\.yaml can't be read"):
        read_site(tmp_path / "latin.yaml")
    with pytest.raises(PollenError, match="can't be read"):
        read_site(tmp_path)


def test_a_site_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        Site().storage.bucket = "other"  # type: ignore[misc]


class TestDeploymentsFolder:
    def test_the_checkout_has_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        assert deployments_folder() == Path(__file__).parents[2] / "deployments"

    def test_the_application_folder_of_an_image_comes_first(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "deployments").mkdir()
        monkeypatch.setenv("POLLEN_APP_DIR", str(tmp_path))
        assert deployments_folder() == tmp_path / "deployments"

    def test_an_application_folder_without_it_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("POLLEN_APP_DIR", str(tmp_path))
        with pytest.raises(PollenError, match=r"POLLEN_APP_DIR is .* set it to the folder"):
            deployments_folder()

    def test_an_installed_program_finds_it_in_the_working_directory_or_says_where_it_looked(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("services.site.__file__", str(tmp_path / "site-packages/services/x.py"))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(PollenError, match=f"neither next to this program nor in {tmp_path}"):
            deployments_folder()
        (tmp_path / "deployments").mkdir()
        (tmp_path / "deployments" / "site.yaml").touch()
        assert deployments_folder() == tmp_path / "deployments"

"""Blocks on a real Prefect server: what the site file says, nothing else; keys stay and are never told."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect_aws import AwsClientParameters, AwsCredentials, MinIOCredentials, S3Bucket
from pydantic import SecretStr

from pollen.errors import PollenError
from services.embedded import EmbeddedS3
from services.setup.blocks import plan_blocks
from services.setup.plan import Action, Step, to_do
from services.site import Site
from tasks.storage.store import Location, _load_block, open_store

KEY, SECRET = "AKIAEXAMPLE", "s3cr3t-of-the-lab"


def site(name: str, **storage: Any) -> Site:  # noqa: ANN401  (settings of the storage)
    return Site.model_validate({"storage": {"block": name, **storage}})


def carry_out(steps: Iterable[Step]) -> None:
    for step in to_do(steps):
        assert step.do is not None
        step.do()


def actions(steps: Iterable[Step]) -> list[Action]:
    return [step.change.action for step in steps]


def told(steps: Iterable[Step]) -> str:
    return "\n".join(f"{step.change}" for step in steps)


def saved(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    """A bucket's block, keys and all."""
    return dict(client.read_block_document_by_name(name, "s3-bucket").data)


class TestNew:
    def test_runs_reach_the_bucket_through_it_with_keys_from_their_environment(
        self, client: SyncPrefectClient, name: str, s3_server: EmbeddedS3
    ) -> None:
        with s3_server.active():
            there = site(name, bucket="pollen", folder=name, endpoint_url=s3_server.endpoint_url)
            steps = plan_blocks(client, there)
            assert actions(steps) == ["create", "create"]
            carry_out(steps)
            open_store(Location(block=name, prefix="sub")).write("a.txt", b"grain")
            at_top = open_store(Location(bucket="pollen"))
            assert at_top.read(f"{name}/sub/a.txt") == b"grain"

    def test_it_holds_no_keys_although_they_are_in_this_environment(
        self, client: SyncPrefectClient, name: str, s3_server: EmbeddedS3
    ) -> None:
        with s3_server.active():
            carry_out(plan_blocks(client, site(name, bucket="pollen")))
        assert s3_server.secret_key not in str(saved(client, name))
        assert s3_server.access_key not in str(saved(client, name))

    def test_the_address_of_this_shell_makes_a_block_and_never_moves_one(
        self, client: SyncPrefectClient, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://first.example.org")
        carry_out(plan_blocks(client, site(name, bucket="lab")))
        assert "https://first.example.org" in str(saved(client, name))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://another.example.org")
        assert actions(plan_blocks(client, site(name, bucket="lab"))) == ["keep", "keep"]

    def test_looking_makes_nothing_and_the_second_time_finds_nothing_to_do(
        self, client: SyncPrefectClient, name: str
    ) -> None:
        there = site(name, bucket="lab", endpoint_url="https://s3.example.org", region="eu")
        assert actions(plan_blocks(client, there)) == ["create", "create"]
        carry_out(plan_blocks(client, there))
        assert actions(plan_blocks(client, there)) == ["keep", "keep"]

    def test_prefects_own_class_loads_it(self, client: SyncPrefectClient, name: str) -> None:
        there = site(name, bucket="lab", folder="a/b", endpoint_url="https://s3.example.org")
        carry_out(plan_blocks(client, there))
        block = S3Bucket.load(name)
        assert isinstance(block, S3Bucket)
        assert (block.bucket_name, block.bucket_folder) == ("lab", "a/b")
        assert block.credentials.aws_client_parameters.endpoint_url == "https://s3.example.org"

    def test_the_ca_file_is_used_and_need_not_be_on_this_machine(
        self, client: SyncPrefectClient, name: str, tmp_path: Path
    ) -> None:
        authority = tmp_path / "ca.crt"
        there = site(name, bucket="lab", ca_file=str(authority))
        carry_out(plan_blocks(client, there))
        with pytest.raises(PollenError, match="names the CA file"):
            open_store(Location(block=name))
        authority.touch()
        parameters = _load_block(name).credentials.aws_client_parameters.get_params_override()
        assert parameters["verify"] == authority

    def test_neither_a_bucket_nor_a_block_is_an_error_that_says_where_to_name_it(
        self, client: SyncPrefectClient, name: str
    ) -> None:
        with pytest.raises(PollenError, match=rf"no block '{name}'.*storage\.bucket.*--bucket"):
            plan_blocks(client, site(name, endpoint_url="https://s3.example.org"))


class TestSavedByHand:
    def test_it_is_kept_when_no_bucket_is_named(self, client: SyncPrefectClient, name: str) -> None:
        credentials = AwsCredentials(region_name="eu")
        credentials.save(f"{name}-mine")
        S3Bucket(bucket_name="lab", bucket_folder="x", credentials=credentials).save(name)
        steps = plan_blocks(client, site(name))
        assert actions(steps) == ["keep", "keep"]
        assert not any(step.change.attention for step in steps)
        assert "s3://lab/x" in told(steps)

    def test_what_the_site_file_does_not_say_stays(
        self, client: SyncPrefectClient, name: str
    ) -> None:
        first = site(name, bucket="lab", folder="x", endpoint_url="https://s3.example.org")
        carry_out(plan_blocks(client, first))
        steps = plan_blocks(client, site(name, bucket="other"))
        assert actions(steps) == ["keep", "update"]
        assert "bucket: lab to other; then s3://other/x" in told(steps)
        carry_out(steps)
        block = _load_block(name)
        assert (block.bucket_name, block.bucket_folder) == ("other", "x")
        assert block.credentials.aws_client_parameters.endpoint_url == "https://s3.example.org"
        carry_out(plan_blocks(client, site(name, folder="")))
        assert _load_block(name).bucket_folder == ""

    def test_a_new_address_alone_moves_it(self, client: SyncPrefectClient, name: str) -> None:
        carry_out(plan_blocks(client, site(name, bucket="lab", endpoint_url="http://old:1")))
        steps = plan_blocks(client, site(name, endpoint_url="http://new:2", region="eu"))
        assert actions(steps) == ["update", "keep"]
        assert "address: http://old:1 to http://new:2; region: none to eu" in told(steps)
        carry_out(steps)
        assert actions(plan_blocks(client, site(name))) == ["keep", "keep"]
        credentials = _load_block(name).credentials
        assert credentials.aws_client_parameters.endpoint_url == "http://new:2"
        assert credentials.aws_client_parameters.verify is True

    def test_keys_in_credentials_of_the_expected_name_stay_and_are_not_told(
        self, client: SyncPrefectClient, name: str
    ) -> None:
        credentials = AwsCredentials(aws_access_key_id=KEY, aws_secret_access_key=SecretStr(SECRET))
        credentials.save(f"{name}-credentials")
        first = plan_blocks(client, site(name, bucket="lab", endpoint_url="http://new:2"))
        assert actions(first) == ["update", "create"]
        carry_out(first)
        second = plan_blocks(client, site(name, bucket="lab"))
        assert actions(second) == ["keep", "keep"]
        assert second[0].change.attention
        for steps in (first, second):
            assert "holds keys (not shown, not changed)" in told(steps)
            assert KEY not in told(steps)
            assert SECRET not in told(steps)
        after = saved(client, name)["credentials"]
        assert (after["aws_access_key_id"], after["aws_secret_access_key"]) == (KEY, SECRET)

    @pytest.mark.parametrize(
        "credentials",
        [
            AwsCredentials(aws_access_key_id=KEY, aws_secret_access_key=SecretStr(SECRET)),
            MinIOCredentials(minio_root_user=KEY, minio_root_password=SecretStr(SECRET)),
        ],
        ids=["aws", "minio"],
    )
    def test_keys_inside_the_buckets_block_stay_when_its_address_changes(
        self,
        client: SyncPrefectClient,
        name: str,
        credentials: AwsCredentials | MinIOCredentials,
    ) -> None:
        S3Bucket(bucket_name="lab", credentials=credentials).save(name)
        assert told(plan_blocks(client, site(name))).count("holds keys") == 1
        moved = site(name, bucket="other", endpoint_url="http://new:2")
        steps = plan_blocks(client, moved)
        assert actions(steps) == ["update"]
        assert SECRET not in told(steps)
        carry_out(steps)
        assert actions(plan_blocks(client, moved)) == ["keep"]
        block = _load_block(name)
        assert type(block.credentials) is type(credentials)
        assert block.bucket_name == "other"
        assert block.credentials.aws_client_parameters.endpoint_url == "http://new:2"
        held = saved(client, name)["credentials"].values()
        assert {KEY, SECRET} <= {value for value in held if isinstance(value, str)}

    def test_credentials_of_another_name_are_left_alone_and_it_says_what_differs(
        self, client: SyncPrefectClient, name: str
    ) -> None:
        mine = AwsCredentials(aws_access_key_id=KEY, aws_secret_access_key=SecretStr(SECRET))
        mine.save(f"{name}-mine")
        S3Bucket(bucket_name="lab", credentials=mine).save(name)
        moved = site(name, bucket="other", endpoint_url="http://new:2")
        steps = plan_blocks(client, moved)
        assert actions(steps) == ["keep", "update"]
        assert steps[0].change.name == f"{name}-mine"
        assert (
            "left unchanged; it differs from the site file: address: none to http://new:2"
            in told(steps)
        )
        carry_out(steps)
        after = saved(client, name)
        assert after["bucket_name"] == "other"
        assert after["credentials"]["aws_secret_access_key"] == SECRET
        assert after["credentials"]["aws_client_parameters"]["endpoint_url"] is None

    def test_checks_of_certificates_that_were_switched_off_are_switched_on(
        self, client: SyncPrefectClient, name: str
    ) -> None:
        off = AwsCredentials(aws_client_parameters=AwsClientParameters(verify=False))
        S3Bucket(bucket_name="lab", credentials=off).save(name)
        steps = plan_blocks(client, site(name))
        assert "certificates are checked" in told(steps)
        carry_out(steps)
        assert _load_block(name).credentials.aws_client_parameters.verify is True

    def test_a_password_in_a_saved_address_is_not_told(
        self, client: SyncPrefectClient, name: str
    ) -> None:
        parameters = AwsClientParameters(endpoint_url=f"https://{KEY}:{SECRET}@old:1")
        inside = AwsCredentials(aws_client_parameters=parameters)
        S3Bucket(bucket_name="lab", credentials=inside).save(name)
        shown = told(plan_blocks(client, site(name, endpoint_url="https://new:2")))
        assert "address: https://old:1 to https://new:2" in shown
        assert SECRET not in shown

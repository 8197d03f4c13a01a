"""Buckets and identities in a real object store: applied once, drifted by hand, put back, killed half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.paths import PROJECT
from include.reconcile import s3
from include.reconcile.s3 import identities
from include.specs import policy as policies
from include.specs import s3 as spec
from include.specs.reader import SpecError

PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::lakehouse/bronze/*"}
    ],
}


@pytest.fixture
def clients(object_store: Any) -> Iterator[tuple[Any, Any]]:
    client, iam = object_store.client("s3"), object_store.client("iam")
    yield client, iam
    for member in policies.load().members:
        if member.name in {user["UserName"] for user in iam.list_users()["Users"]}:
            for name in iam.list_user_policies(UserName=member.name)["PolicyNames"]:
                iam.delete_user_policy(UserName=member.name, PolicyName=name)
            for one in iam.list_attached_user_policies(UserName=member.name)["AttachedPolicies"]:
                iam.detach_user_policy(UserName=member.name, PolicyArn=one["PolicyArn"])
            iam.delete_user(UserName=member.name)


def buckets(tmp_path: Path, **more: Any) -> tuple[spec.Bucket, ...]:
    """The shipped buckets and some of the test's."""
    data = yaml.safe_load(spec.FILE.read_text(encoding="utf-8")) | more
    (tmp_path / "buckets.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return spec.load(tmp_path / "buckets.yaml")


def lines(clients: tuple[Any, Any], declared: Any = None, *, apply: bool = True) -> list[str]:
    return [str(change) for change in s3.run(*clients, apply=apply, declared=declared)]


def test_applied_once_then_drift_by_hand_is_named_and_put_back(clients: tuple[Any, Any], tmp_path: Path) -> None:
    client, iam = clients
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    declared = buckets(
        tmp_path,
        **{
            name: {
                "purpose": "test",
                "encryption": "AES256",
                "versioning": "Enabled",
                "lifecycle": {"old": {"prefix": "tmp/", "expire_days": 3}},
            }
        },
    )
    planned = lines(clients, declared, apply=False)
    assert f"create bucket {name}" in planned
    assert name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    assert lines(clients, declared) == planned
    assert lines(clients, declared) == []

    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    client.delete_bucket_lifecycle(Bucket=name)
    client.delete_bucket_encryption(Bucket=name)
    client.put_bucket_policy(Bucket="lakehouse", Policy=json.dumps(PUBLIC))
    everything = json.dumps(identities.document(policies.load().actions("admin", "s3")))
    iam.put_user_policy(UserName="engineer", PolicyName="extra", PolicyDocument=everything)
    iam.put_user_policy(UserName="engineer", PolicyName=identities.POLICY, PolicyDocument=everything)
    drift = lines(clients, declared, apply=False)
    assert [line.split("\n")[0] for line in drift] == [
        "update bucket policy lakehouse",
        f"update bucket encryption {name}",
        f"update bucket versioning {name}",
        f"update bucket lifecycle {name}",
        "update S3 policy engineer",
        "delete S3 policy engineer: extra",
    ]
    assert lines(clients, declared) == drift
    assert lines(clients, declared, apply=False) == []
    client.delete_bucket(Bucket=name)


def test_an_identity_made_by_hand_for_a_role_without_rights_has_none(clients: tuple[Any, Any]) -> None:
    _, iam = clients
    lines(clients)
    assert "viewer" not in {user["UserName"] for user in iam.list_users()["Users"]}
    iam.create_user(UserName="viewer")
    document = json.dumps(identities.document(("read_bronze",)))
    iam.put_user_policy(UserName="viewer", PolicyName=identities.POLICY, PolicyDocument=document)
    (line,) = lines(clients)
    assert line.startswith("update S3 policy viewer\n")
    assert line.endswith("-> none")
    assert lines(clients, apply=False) == []


KILLED = """
import boto3, os, signal, sys
from include.reconcile import s3
from include.reconcile.s3 import session
made, count = session.Session.make, 0
def make(self, change, do):
    global count
    made(self, change, do)
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
session.Session.make = make
s3.run(*(boto3.client(name) for name in ("s3", "iam")), apply=True)
"""


def test_an_apply_that_is_killed_is_finished_by_the_next(clients: tuple[Any, Any], object_store: Any) -> None:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": object_store.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}",
    }
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, cwd=PROJECT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert lines(clients) != []
    assert lines(clients) == []


@pytest.mark.parametrize(
    ("name", "entry", "complaint"),
    [
        ("UPPER", {"purpose": "x"}, "'UPPER' is no name of a bucket"),
        ("bucket", {}, "'bucket.purpose' is missing; add a str"),
        ("bucket", {"purpose": "x", "encryption": "none"}, "'bucket.encryption' must be one of AES256, found 'none'"),
        ("bucket", {"purpose": "x", "lifecycle": {"a": {"prefix": ""}}}, "'bucket.lifecycle.a.expire_days' must be"),
        ("bucket", {"purpose": "x", "tables": True, "encryption": "AES256"}, "'bucket.tables' is true: the catalog"),
        ("bucket", {"purpose": "x", "public": True}, "'bucket.public' is not known here"),
    ],
)
def test_a_mistake_is_named_with_file_and_field(tmp_path: Path, name: str, entry: Any, complaint: str) -> None:
    with pytest.raises(SpecError) as caught:
        buckets(tmp_path, **{name: entry})
    assert str(caught.value).startswith(f"buckets.yaml: {complaint}")

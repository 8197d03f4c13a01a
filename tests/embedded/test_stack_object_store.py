"""The object store on the wire: its keys open it, and nothing else does."""

from __future__ import annotations

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from embedded.object_store import REGION, ObjectStore

MARK = b"not to be seen on the disk " * 100


def test_buckets_exist_and_making_them_again_is_harmless(object_store: ObjectStore):
    object_store.provision()
    buckets = {bucket["Name"] for bucket in object_store.client("s3").list_buckets()["Buckets"]}
    assert {"lakehouse", "lakehouse-dist", "warehouse"} <= buckets


def test_objects_are_encrypted_at_rest(object_store: ObjectStore):
    s3 = object_store.client("s3")
    s3.put_object(Bucket="lakehouse", Key="test/mark", Body=MARK)
    assert s3.get_object(Bucket="lakehouse", Key="test/mark")["Body"].read() == MARK
    volumes = list((object_store.folder / "data").glob("*.dat"))
    assert volumes
    assert not any(MARK[:26] in volume.read_bytes() for volume in volumes)


@pytest.mark.parametrize("port", ["s3", "filer", "volume", "master", "weed-admin", "iceberg"])
def test_no_port_gives_an_object_without_credentials(object_store: ObjectStore, port: str):
    object_store.client("s3").put_object(Bucket="lakehouse", Key="test/mark", Body=MARK)
    for path in ("/lakehouse/test/mark", "/buckets/lakehouse/test/mark", "/lakehouse?list-type=2", "/v1/namespaces"):
        assert httpx.get(f"http://127.0.0.1:{object_store.ports[port]}{path}").status_code in {401, 403, 404}


def test_the_master_deletes_no_bucket_without_credentials(object_store: ObjectStore):
    s3 = object_store.client("s3")
    s3.put_object(Bucket="lakehouse-dist", Key="test/kept", Body=MARK)
    url = f"http://127.0.0.1:{object_store.ports['master']}/col/delete?collection=lakehouse-dist"
    assert httpx.get(url).status_code == 404
    assert s3.get_object(Bucket="lakehouse-dist", Key="test/kept")["Body"].read() == MARK


@pytest.mark.parametrize("part", ["master-grpc", "filer-grpc", "volume-grpc", "s3-grpc", "weed-admin-grpc"])
def test_internal_ports_speak_only_to_our_certificate(object_store: ObjectStore, part: str):
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://127.0.0.1:{object_store.ports[part]}/", verify=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{object_store.ports[part]}/")


def test_a_wrong_secret_is_refused(object_store: ObjectStore):
    other = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint_url,
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key="wrong",
        region_name=REGION,
        config=Config(retries={"max_attempts": 1}),
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        other.list_buckets()


def test_a_missing_bucket_is_not_made_and_a_full_one_not_deleted(object_store: ObjectStore):
    s3 = object_store.client("s3")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.put_object(Bucket="mistyped", Key="a", Body=b"a")
    s3.put_object(Bucket="lakehouse", Key="test/mark", Body=MARK)
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        s3.delete_bucket(Bucket="lakehouse")

"""The walk over all of the object store's declared state: buckets first, then who may reach them."""

from __future__ import annotations

from typing import Any

from include.reconcile.plan import Change
from include.reconcile.s3 import buckets, identities
from include.reconcile.s3.session import Session
from include.specs import policy as policies
from include.specs import s3 as spec
from include.specs.policy import Policy
from include.specs.s3 import Bucket


def run(
    s3: Any,
    iam: Any,
    *,
    apply: bool,
    declared: tuple[Bucket, ...] | None = None,
    policy: Policy | None = None,
) -> list[Change]:
    """`s3`, `iam`: boto3 clients. Deletes no bucket and no identity. Raises SpecError, ApplyError."""
    session = Session(s3, iam, apply)
    buckets.run(session, declared if declared is not None else spec.load())
    identities.run(session, policy or policies.load())
    return session.changes

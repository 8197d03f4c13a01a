"""An IAM user for each member whom the policy lets into the store, with one inline policy that says exactly what.

Access keys are no declared state: the store makes them up and shows each once. An administrator hands one out with
`aws iam create-access-key --user-name <member>`; taking the role away takes its rights at once.
"""

from __future__ import annotations

import json
from typing import Any

from include.reconcile.plan import Change
from include.reconcile.s3.session import Session, canonical, or_none
from include.specs.policy import Policy

POLICY = "lakehouse_policy"
BRONZE, TABLES = "lakehouse", "warehouse"
_READ = ("s3:GetObject",)
_WRITE = ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
_ABSENT = ("NoSuchEntity",)


def document(actions: tuple[str, ...]) -> dict[str, Any]:
    """The policy's actions as an IAM document."""
    if "manage_buckets" in actions:
        return _document([_allow(("s3:*",), "arn:aws:s3:::*")])
    statements = []
    for place, bucket, prefix in (("bronze", BRONZE, "bronze/"), ("tables", TABLES, "")):
        keys = f"arn:aws:s3:::{bucket}/{prefix}*"
        if f"read_{place}" in actions:
            statements.append(_list(bucket, prefix))
            statements.append(_allow(_READ, keys))
        if f"write_{place}" in actions:
            statements.append(_allow(_WRITE, keys))
    return _document(statements)


def _document(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(actions: tuple[str, ...], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": [resource]}


def _list(bucket: str, prefix: str) -> dict[str, Any]:
    statement = _allow(("s3:ListBucket",), f"arn:aws:s3:::{bucket}")
    return {**statement, "Condition": {"StringLike": {"s3:prefix": [f"{prefix}*"]}}} if prefix else statement


def run(session: Session, policy: Policy) -> None:
    for member in policy.members:
        _identity(session, member.name, policy.actions(member.role, "s3"))


def _identity(session: Session, name: str, actions: tuple[str, ...]) -> None:
    """Who may nothing is not made; who is there and may nothing any more loses its rights, and stays."""
    there = or_none(lambda: session.iam.get_user(UserName=name), _ABSENT)
    if there is None and not actions:
        return
    if there is None:
        session.make(Change("create", "S3 identity", name), lambda: session.iam.create_user(UserName=name))
    _inline(session, name, actions, known=there is not None)


def _inline(session: Session, name: str, actions: tuple[str, ...], *, known: bool) -> None:
    """Exactly one inline policy, and nothing attached: what was added by hand is taken off."""
    iam, person = session.iam, {"UserName": name}
    names = iam.list_user_policies(**person)["PolicyNames"] if known else []
    attached = iam.list_attached_user_policies(**person)["AttachedPolicies"] if known else []
    actual = canonical(iam.get_user_policy(**person, PolicyName=POLICY)["PolicyDocument"]) if POLICY in names else None
    wanted = document(actions) if actions else None
    if actual != (canonical(wanted) if wanted else None):
        lines = (f"{_text(actual)} -> {_text(canonical(wanted)) if wanted else 'none'}",)
        change = Change("update", "S3 policy", name, lines)
        if wanted:
            text = json.dumps(wanted)
            session.make(change, lambda: iam.put_user_policy(**person, PolicyName=POLICY, PolicyDocument=text))
        else:
            session.make(change, lambda: iam.delete_user_policy(**person, PolicyName=POLICY))
    for other in sorted(set(names) - {POLICY}):
        session.make(
            Change("delete", "S3 policy", f"{name}: {other}"),
            lambda other=other: iam.delete_user_policy(**person, PolicyName=other),  # type: ignore[misc]
        )
    for one in attached:
        session.make(
            Change("delete", "S3 policy", f"{name}: {one['PolicyName']}"),
            lambda one=one: iam.detach_user_policy(**person, PolicyArn=one["PolicyArn"]),  # type: ignore[misc]
        )


def _text(document: Any) -> str:
    return "none" if document is None else json.dumps(document, sort_keys=True)

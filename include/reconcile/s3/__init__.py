"""The object store as declared state over S3 and IAM: buckets, and an identity for each member of the policy."""

from __future__ import annotations

from include.reconcile.s3.state import run

__all__ = ["run"]

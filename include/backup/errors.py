"""What can go wrong with a backup; every message says what to change."""

from __future__ import annotations


class BackupError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(BackupError):
    """A setting, a connection, a key or a program is missing or wrong."""


class StoreError(BackupError):
    """The backup store cannot be reached, refuses the credentials, or is full."""


class ExistsError(StoreError):
    """An object that is written once exists already."""


class DamagedError(BackupError):
    """Something in a set is not what was written: changed, cut off, exchanged, missing or signed by somebody else."""


class NotVerifiedError(BackupError):
    """A drill could not prove a set; the message says where it stopped."""


class ServerError(BackupError):
    """PostgreSQL, or a program of it, does not do what is asked."""


class RefusedError(BackupError):
    """What was asked would destroy something; the message names the word that allows it."""

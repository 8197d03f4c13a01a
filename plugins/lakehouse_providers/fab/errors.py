"""What can go wrong with Airflow's auth manager API.

FabError
├── FabAuthenticationError   the connection's login or password is wrong, or may not manage users
├── FabNotFoundError         no such role or user
└── FabResponseError         any other refusal, or no answer
"""

from __future__ import annotations


class FabError(Exception):
    pass


class FabAuthenticationError(FabError):
    pass


class FabNotFoundError(FabError):
    pass


class FabResponseError(FabError):
    pass

"""The walk over all of Dremio's declared state, in an order in which every object finds what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from include.reconcile.dremio import access, catalog, ownership, pruning, strays
from include.reconcile.dremio.policy import with_policy
from include.reconcile.dremio.reflections import reflection
from include.reconcile.dremio.session import Session
from include.reconcile.plan import Change
from include.specs import dremio as spec
from include.specs import policy as policies
from include.specs.dremio import Declaration, Grant, Notes, Path
from lakehouse_providers.dremio.hook import DremioHook


def run(hook: DremioHook, *, apply: bool, prune: bool = False, declaration: Declaration | None = None) -> list[Change]:
    """What differs from the declared state; with `apply` it is made so, and the first refusal stops the walk.

    `prune`: also deletes what was made from declarations that are gone. Running it again changes nothing, and goes on
    where a killed walk stopped. Raises SpecError, ApplyError, or ValueError naming file and field.
    """
    state = declaration or with_policy(spec.load(), policies.load())
    with hook.client() as client:
        session = Session(client, apply)
        if (state.roles or state.grants) and not session.admin.roles():
            note = ("this edition has none; grants in PostgreSQL, S3 and Superset hold",)
            session.changes.append(Change("await", "roles", "of the policy", note))
            state = replace(state, roles=(), grants=(), administrators=())
        _walk(session, state, prune=prune)
    return session.changes


def _accounts(session: Session, state: Declaration) -> None:
    for user in state.users:
        access.user(session, user)
    for role in state.roles:
        access.role(session, role)
    if state.administrators:
        access.administrators(session, [user.name for user in state.users], state.administrators)


def _walk(session: Session, state: Declaration, *, prune: bool) -> None:
    _accounts(session, state)
    for source in state.sources:
        catalog.source(session, source)
    containers = [one for one in state.containers if len(one.path) == 1]
    for container in containers:
        catalog.container(session, container)
    declared, noted = ownership.declared(state), ownership.noted(session)
    if session.apply:  # before anything of ours is made in them
        ownership.note(session, {name: owned | noted.get(name, frozenset()) for name, owned in declared.items()})
    _contents(session, state)
    for path, grants in _by_path(state.grants).items():
        access.grants(session, path, grants)
    if state.administrators:
        strays.run(session, state.grants)
    if prune:
        pruning.prune(session, declared, noted)
        pruning.roles(session, state)
        if session.apply:
            ownership.note(session, declared)


def _contents(session: Session, state: Declaration) -> None:
    for container in state.containers:
        if len(container.path) > 1:
            catalog.container(session, container)
    for view in state.views:
        catalog.view(session, view)
    for path, notes in _notes(state):
        catalog.notes(session, path, notes)
    for wanted in state.reflections:
        reflection(session, wanted)


def _notes(state: Declaration) -> Iterator[tuple[Path, Notes]]:
    yield from (((source.name,), source.notes) for source in state.sources)
    yield from ((container.path, container.notes) for container in state.containers)
    yield from ((view.path, view.notes) for view in state.views)
    yield from ((dataset.path, dataset.notes) for dataset in state.datasets)


def _by_path(grants: tuple[Grant, ...]) -> dict[Path, list[Grant]]:
    found: dict[Path, list[Grant]] = {}
    for grant in grants:
        found.setdefault(grant.path, []).append(grant)
    return found

"""What people read: links lead somewhere, and nothing of one machine has leaked in."""

from __future__ import annotations

import re
from pathlib import Path

# Lock files name the registry they were resolved from; that is their job.
GENERATED = {"uv.lock"}
# Folders of one developer's or one CI worker's machine. The image's own paths (/usr/local/airflow) are fine.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|Users|work|builds|workspace)/[\w.-]+")
# A package index other than the public one: an address that works in one network only.
REGISTRY = re.compile(
    r"(?:--(?:extra-)?index-url|--find-links|^\s*(?:extra-)?index-url\s*=|\[\[tool\.uv\.index\]\])|registry\.npmjs\.org",
    re.M,
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)


def _texts(tracked: list[Path]) -> list[tuple[Path, str]]:
    found = []
    for path in tracked:
        if path.name in GENERATED:
            continue
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def test_no_path_of_one_machine(project: Path, tracked: list[Path]) -> None:
    here = Path(__file__)
    found = [
        f"{path.relative_to(project)}: {match[0]}"
        for path, text in _texts(tracked)
        if path != here
        for match in MACHINE_PATH.finditer(text)
    ]
    assert not found, "use a path relative to the project, or a setting:\n" + "\n".join(found)


def test_no_private_package_index(project: Path, tracked: list[Path]) -> None:
    here = Path(__file__)
    found = [str(p.relative_to(project)) for p, text in _texts(tracked) if p != here and REGISTRY.search(text)]
    assert not found, f"the index belongs into the user's own uv or pip configuration: {found}"


def _anchors(markdown: str) -> set[str]:
    """GitHub's anchors: lower case, punctuation dropped, blanks to dashes."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", FENCE.sub("", markdown), re.M)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading)) for heading in headings)
    return {heading.strip().lower().replace(" ", "-") for heading in plain}


def _broken(source: Path, target: str) -> str | None:
    name, _, anchor = target.partition("#")
    file = (source.parent / name).resolve() if name else source
    if not file.exists():
        return "no such file"
    if anchor and file.suffix == ".md" and anchor not in _anchors(file.read_text(encoding="utf-8")):
        return f"no heading #{anchor}"
    return None


def test_every_link_in_markdown_leads_somewhere(project: Path, tracked: list[Path]) -> None:
    broken = []
    for path in tracked:
        if path.suffix != ".md":
            continue
        for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
            why = None if re.match(r"[a-z]+:", target) else _broken(path, target)
            if why:
                broken.append(f"{path.relative_to(project)} -> {target}: {why}")
    assert not broken, "\n".join(broken)


def test_every_runbook_that_a_dag_names_exists(project: Path) -> None:
    for path in sorted((project / "dags").glob("*/*.py")):
        for target in re.findall(r"docs/runbooks/[\w./#-]+", path.read_text(encoding="utf-8")):
            why = _broken(project / "x", target)
            assert why is None, f"{path.name} -> {target}: {why}"

"""Backup sets: made, listed, verified, restored and drilled, with Airflow or without (`python -m include.backup`).

In the backup store: `sets/<set id>/begin.json`, `sets/<set id>/parts/<part>.json` (what is done already),
`sets/<set id>/data/...` (encrypted segments) and, written last, `sets/<set id>/manifest.json`: without it there is no
set.
The write-ahead log lies beside the sets, under `wal/<system identifier>/`.
"""

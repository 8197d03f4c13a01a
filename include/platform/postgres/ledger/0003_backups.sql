-- Backup sets and the drills that prove them. The sets themselves, with their signed manifests, lie in the backup store and
-- can be read without this; here stands what people and retention ask about them.
create table lakehouse.backup_sets (
    set_id          text        primary key,
    kind            text        not null check (kind in ('full', 'incremental')),
    parent          text,
    state           text        not null check (state in ('running', 'complete', 'failed', 'deleted')),
    started_at      timestamptz not null default clock_timestamp(),
    completed_at    timestamptz,
    bytes           bigint      not null default 0,
    -- Of the manifest as written: one that was replaced since is found out.
    manifest_sha256 text,
    reason          text        not null default '',
    verified_at     timestamptz,
    -- A legal hold: nothing deletes the set while this says why.
    held            text
);
create index backup_sets_newest on lakehouse.backup_sets (completed_at desc);

create table lakehouse.backup_drills (
    drill_id    bigint generated always as identity primary key,
    set_id      text        not null,
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    passed      boolean     not null default false,
    reason      text        not null default '',
    rto_seconds double precision,
    rpo_seconds double precision,
    report      jsonb       not null default '{}'
);
create index backup_drills_newest on lakehouse.backup_drills (set_id, drill_id desc);

-- How far the write-ahead log of each server has reached the backup store.
create table lakehouse.wal_archive (
    instance   text        primary key,
    lsn        pg_lsn      not null,
    written_at timestamptz not null default clock_timestamp()
);

-- The speed lane: how far each connection's change log is complete, what silver has folded, what readers see.

-- Moved by whoever applies changes, in one transaction with the last rows that it speaks of. LSNs are numbers here:
-- they are compared with the `_ab_cdc_*` columns of the log. A new CDC snapshot begins a new epoch.
create table lakehouse.applied_lsn (
    connection_id uuid        primary key,
    connection    text        not null unique,
    epoch         bigint      not null,
    snapshot_lsn  bigint      not null,
    applied_lsn   bigint      not null,
    job_id        bigint      not null,
    moved_at      timestamptz not null default clock_timestamp()
);

-- What the published silver snapshot of an entity contains: the log up to `watermark` of `epoch`, cursor syncs up to
-- `folded_job`. Written after the view that pins them, so it may lag behind that view by one publication, never lead.
create table lakehouse.watermarks (
    entity      text        primary key,
    pipeline    text        not null,
    watermark   bigint      not null,
    epoch       bigint      not null,
    folded_job  bigint      not null,
    snapshot_id bigint      not null,
    dag_run     text        not null,
    moved_at    timestamptz not null default clock_timestamp()
);

create table lakehouse.serving_mode (
    entity        text        primary key,
    pipeline      text        not null,
    connection    text        not null,
    mode          text        not null check (mode in ('unified', 'lagging', 'batch')),
    watermark     bigint      not null,
    epoch         bigint      not null,
    reason        text        not null default '',
    since         timestamptz not null default clock_timestamp()
);

-- The last position of the source that somebody read, and when: what `applied_lsn` is compared with.
create table lakehouse.source_positions (
    connection text        primary key,
    lsn        bigint      not null,
    read_at    timestamptz not null default clock_timestamp()
);

-- Log rows at or below `watermark` may go once `due_at` has passed; the clock is PostgreSQL's alone.
create table lakehouse.prune_queue (
    entity    text        not null,
    watermark bigint      not null,
    due_at    timestamptz not null,
    primary key (entity, watermark)
);

create view lakehouse.serving_status as
select
    m.entity,
    m.pipeline,
    case
        when m.mode = 'unified' and a.applied_lsn < p.lsn and p.read_at > a.moved_at then 'lagging'
        else m.mode
    end as mode,
    m.watermark,
    a.applied_lsn,
    greatest(p.lsn - a.applied_lsn, 0) as lag_bytes,
    case
        when a.applied_lsn >= p.lsn then 0
        else greatest(extract(epoch from clock_timestamp() - a.moved_at), 0)
    end::double precision as lag_seconds,
    m.epoch,
    m.reason,
    m.since
from lakehouse.serving_mode as m
left join lakehouse.applied_lsn as a on a.connection = m.connection
left join lakehouse.source_positions as p on p.connection = m.connection;

create schema if not exists speed;

-- The off-site mirror: what it holds, and what each run did. Written after the copy is there and checked.
create table lakehouse.mirror_objects (
    bucket      text        not null,
    key         text        not null,
    size        bigint      not null,
    etag        text        not null,
    sha256      text        not null,
    copied_at   timestamptz not null default clock_timestamp(),
    verified_at timestamptz,
    primary key (bucket, key)
);
create index mirror_objects_verified on lakehouse.mirror_objects (bucket, verified_at nulls first);

-- `listed_at`: when the listing began, so what a successful run covers. One row a bucket and run.
create table lakehouse.mirror_runs (
    run_id       bigint generated always as identity primary key,
    bucket       text        not null,
    started_by   text        not null,
    listed_at    timestamptz not null default clock_timestamp(),
    ended_at     timestamptz,
    status       text        not null default 'running' check (status in ('running', 'ok', 'failed')),
    reason       text        not null default '',
    listed       bigint      not null default 0,
    copied       bigint      not null default 0,
    copied_bytes bigint      not null default 0,
    quarantined  bigint      not null default 0,
    verified     bigint      not null default 0
);
create index mirror_runs_newest on lakehouse.mirror_runs (bucket, run_id desc);

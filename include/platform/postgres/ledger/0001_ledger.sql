-- The sync ledger and what the batch lane keeps beside it. Applied once, in order, inside one transaction.
create table lakehouse.sync_ledger (
    connection_id   uuid        not null,
    job_id          bigint      not null,
    connection      text        not null,
    pipeline        text        not null,
    lane            text        not null check (lane in ('batch', 'speed')),
    status          text        not null check (status in ('succeeded', 'failed', 'cancelled')),
    dag_run         text        not null,
    interval_start  timestamptz,
    interval_end    timestamptz,
    started_at      timestamptz not null,
    ended_at        timestamptz,
    rows_committed  bigint      not null,
    bytes_committed bigint      not null,
    lsn_before      pg_lsn,
    lsn_after       pg_lsn,
    recorded_at     timestamptz not null default clock_timestamp(),
    primary key (connection_id, job_id)
);
create index sync_ledger_newest on lakehouse.sync_ledger (pipeline, connection, job_id desc);

create table lakehouse.sync_streams (
    connection_id  uuid   not null,
    job_id         bigint not null,
    stream         text   not null,
    rows_committed bigint not null,
    generation     bigint,
    primary key (connection_id, job_id, stream),
    foreign key (connection_id, job_id) references lakehouse.sync_ledger
);

create table lakehouse.leases (
    name       text primary key,
    holder     text        not null,
    token      bigint      not null,
    expires_at timestamptz not null
);

create table lakehouse.publications (
    publication_id bigint generated always as identity primary key,
    pipeline       text        not null,
    dataset        text        not null,
    view_path      text        not null,
    snapshot_id    bigint      not null,
    dag_run        text        not null,
    fence_token    bigint      not null,
    published_at   timestamptz not null default clock_timestamp()
);
create index publications_newest on lakehouse.publications (dataset, publication_id desc);

create table lakehouse.dataset_status (
    dataset  text primary key,
    pipeline text        not null,
    stale    boolean     not null,
    reason   text        not null default '',
    since    timestamptz not null default clock_timestamp()
);

create table lakehouse.receipts (
    dag_id     text        not null,
    run_id     text        not null,
    receipt    jsonb       not null,
    written_at timestamptz not null default clock_timestamp(),
    primary key (dag_id, run_id)
);

create table workspaces (
    id         uuid primary key,
    name       text not null,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);

create table actors (
    id            uuid primary key,
    kind          text not null check (kind in ('source', 'destination')),
    workspace_id  uuid not null references workspaces,
    definition_id uuid not null,
    type          text not null,
    name          text not null,
    configuration jsonb not null,
    created_at    timestamptz not null default now(),
    deleted_at    timestamptz
);

create table connections (
    id                   uuid primary key,
    workspace_id         uuid not null references workspaces,
    source_id            uuid not null references actors,
    destination_id       uuid not null references actors,
    name                 text not null,
    status               text not null check (status in ('active', 'inactive', 'deprecated', 'locked')),
    status_reason        text,
    schedule             jsonb not null,
    namespace_definition text not null,
    namespace_format     text,
    prefix               text not null default '',
    schema_updates       text not null,
    decimal_as_double    boolean,
    tags                 jsonb not null default '[]',
    created_at           timestamptz not null default now(),
    deleted_at           timestamptz
);

-- What a connection copies. `fields`: the columns known when it was configured, [{"name", "type"}], to see changes.
create table streams (
    connection_id uuid not null references connections,
    ordinal       integer not null,
    namespace     text not null,
    name          text not null,
    config        jsonb not null,
    fields        jsonb not null,
    primary key (connection_id, namespace, name)
);

-- Outlives the stream's configuration: a generation never decreases, and a stream that comes back resumes.
create table stream_states (
    connection_id         uuid not null references connections,
    namespace             text not null,
    name                  text not null,
    generation_id         bigint not null default 0,
    minimum_generation_id bigint not null default 0,
    cursor                jsonb,
    job_id                bigint,
    updated_at            timestamptz not null default now(),
    primary key (connection_id, namespace, name)
);

create table jobs (
    id              bigint generated always as identity primary key,
    connection_id   uuid not null references connections,
    type            text not null check (type in ('sync', 'reset')),
    status          text not null check (status in
        ('pending', 'queued', 'running', 'incomplete', 'failed', 'succeeded', 'cancelled')),
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    ended_at        timestamptz,
    next_attempt_at timestamptz not null default now(),
    records         bigint not null default 0,
    bytes           bigint not null default 0
);
create unique index one_open_job_per_connection on jobs (connection_id)
    where status in ('pending', 'queued', 'running', 'incomplete');
create index jobs_of_a_connection on jobs (connection_id, created_at);

-- `outcome` is set once every byte is uploaded: from then on the attempt is finished forward, never read again.
create table attempts (
    job_id     bigint not null references jobs,
    number     integer not null,
    status     text not null check (status in ('running', 'failed', 'succeeded', 'cancelled')),
    started_at timestamptz not null default now(),
    ended_at   timestamptz,
    failure    jsonb,
    outcome    jsonb,
    primary key (job_id, number)
);

-- One row per stream of a job. Generations are fixed by the job's first attempt.
create table job_streams (
    job_id                bigint not null references jobs,
    namespace             text not null,
    name                  text not null,
    sync_mode             text not null,
    generation_id         bigint not null,
    minimum_generation_id bigint not null,
    stats                 jsonb not null default '{}',
    primary key (job_id, namespace, name)
);

-- Every object that was ever planned. A row exists before the object can: nothing of ours is ever unknown to us.
create table objects (
    id             bigint generated always as identity primary key,
    job_id         bigint not null references jobs,
    attempt        integer not null,
    destination_id uuid not null references actors,
    namespace      text not null,
    name           text not null,
    bucket         text not null,
    key            text not null,
    part_number    integer not null,
    generation_id  bigint not null,
    upload_id      text,
    parts          jsonb,
    records        bigint not null default 0,
    bytes          bigint not null default 0,
    status         text not null check (status in ('planned', 'uploaded', 'visible', 'removed'))
);
create unique index one_object_per_key on objects (destination_id, bucket, key) where status <> 'removed';
create index objects_of_a_job on objects (job_id, attempt);
create index objects_of_a_stream on objects (destination_id, namespace, name, generation_id);

create table job_log (
    id      bigint generated always as identity primary key,
    job_id  bigint not null references jobs,
    attempt integer not null,
    at      timestamptz not null default now(),
    level   text not null,
    message text not null
);
create index log_of_a_job on job_log (job_id, id);

insert into workspaces (id, name) values ('00000000-0000-4000-8000-000000000001', 'Default Workspace');

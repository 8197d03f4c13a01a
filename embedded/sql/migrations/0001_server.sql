-- Everything the SQL server must remember. Results and materialisations lie in files; their names are here.

create table server_secrets (
    name text primary key,
    value bytea not null
);

create table users (
    id uuid primary key,
    name text not null,
    password_hash text not null,
    first_name text not null default '',
    last_name text not null default '',
    email text not null default '',
    admin boolean not null default false,
    created_at timestamptz not null default now()
);
create unique index users_name on users (lower(name));

create table personal_access_tokens (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    label text not null,
    token_hash bytea not null unique,       -- SHA-256; the token itself is shown once and never stored
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);

create table revoked_tokens (
    id text primary key,
    expires_at timestamptz not null         -- afterwards the row may go: the token is refused by its own date
);

-- Spaces, sources, folders, views and known tables. `key` is the lower-cased path as JSON: names ignore case.
create table entities (
    id uuid primary key,
    kind text not null check (kind in ('home', 'space', 'source', 'folder', 'view', 'table')),
    path text[] not null,
    key text not null unique,
    tag text not null,
    created_at timestamptz not null default now(),
    body jsonb not null default '{}',
    secrets jsonb not null default '{}'     -- of a source; never leaves the server
);

-- What the last metadata refresh of a promoted folder or file saw. Queries see this and nothing newer.
create table table_metadata (
    entity_id uuid primary key references entities on delete cascade,
    version bigint not null,
    refreshed_at timestamptz not null,
    columns jsonb not null,
    row_count bigint not null
);

create table table_files (
    entity_id uuid not null references entities on delete cascade,
    uri text not null,
    size bigint not null,
    etag text not null,
    row_count bigint not null,
    primary key (entity_id, uri)
);

create table collaboration (
    entity_id uuid not null references entities on delete cascade,
    kind text not null check (kind in ('wiki', 'tags')),
    version bigint not null,
    body jsonb not null,
    primary key (entity_id, kind)
);

create table jobs (
    id uuid primary key,
    state text not null,
    query_type text not null,
    user_name text not null,
    sql text not null,
    context text[] not null default '{}',
    submitted_at timestamptz not null,
    started_at timestamptz,
    ended_at timestamptz,
    row_count bigint,
    error text not null default '',
    cancellation_reason text not null default '',
    details jsonb not null default '{}'
);
create index jobs_submitted on jobs (submitted_at);
create index jobs_unfinished on jobs (id) where state not in ('COMPLETED', 'CANCELED', 'FAILED');

create table reflections (
    id uuid primary key,
    dataset_id uuid not null references entities on delete cascade,
    name text not null,
    type text not null check (type in ('RAW', 'AGGREGATION')),
    tag text not null,
    enabled boolean not null,
    definition jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- The manager's entry.
    state text not null,
    config_error text not null default '',
    failure_count integer not null default 0,
    last_failure_message text,
    last_failure_at timestamptz,
    last_submitted_at timestamptz,
    requested_at timestamptz                -- a refresh of this one reflection was asked for
);
create index reflections_dataset on reflections (dataset_id);

create table reflection_dependencies (
    reflection_id uuid not null references reflections on delete cascade,
    dependency_type text not null check (dependency_type in ('DATASET', 'REFLECTION')),
    dependency_id text not null,
    dependency_path text[] not null,
    primary key (reflection_id, dependency_type, dependency_id)
);

create table refresh_requests (
    dataset_id uuid primary key references entities on delete cascade,
    requested_at timestamptz not null
);

create table materializations (
    id uuid primary key,
    reflection_id uuid not null references reflections on delete cascade,
    state text not null check (state in ('RUNNING', 'DONE', 'FAILED', 'CANCELED', 'DEPRECATED', 'DELETED')),
    created_at timestamptz not null,
    finished_at timestamptz,
    expires_at timestamptz,
    last_refresh_from_pds timestamptz,
    job_id uuid,
    series_id bigint not null,
    series_ordinal integer not null default 0,
    definition_tag text not null,           -- the reflection's tag when the refresh began
    refresh_method text not null default 'FULL',
    failure_message text,
    row_count bigint not null default 0,
    size_bytes bigint not null default 0,
    folder text not null default '',
    files jsonb not null default '[]',
    anchor_snapshot bigint,
    sources jsonb not null default '{}'     -- encoded path of a table -> the version that was read
);
create index materializations_reflection on materializations (reflection_id, created_at);

create table doomed_folders (
    -- Files of dropped materialisations: readers may still be at them, so they go after a grace.
    folder text primary key,
    doomed_at timestamptz not null
);

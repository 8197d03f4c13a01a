-- State of a connection as a whole: Airbyte's GLOBAL state, the position of a change data capture.
create table shared_states (
    connection_id uuid primary key references connections,
    state         jsonb not null,
    job_id        bigint,
    updated_at    timestamptz not null default now()
);

-- `refresh`: a sync that reads its streams from the start; `options`: which streams a refresh or reset is for, and how.
alter table jobs drop constraint jobs_type_check;
alter table jobs add constraint jobs_type_check check (type in ('sync', 'reset', 'refresh'));
alter table jobs add column options jsonb not null default '{}';

-- What attempts of an open job have brought so far and the next one need not read again; void once the job has ended.
alter table jobs add column progress jsonb;
alter table attempts add column progressed boolean not null default false;
alter table objects add column kept boolean not null default false;

-- When a running attempt last heard from its source or wrote to its destination.
alter table attempts add column heard_at timestamptz not null default now();

-- What a connector discovered, and of which configuration and version of it.
create table catalogs (
    source_id     uuid primary key references actors,
    fingerprint   text not null,
    catalog       json not null, -- not jsonb: the order of fields is that of columns
    discovered_at timestamptz not null default now()
);

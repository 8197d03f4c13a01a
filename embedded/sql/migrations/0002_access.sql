-- Roles, privileges (Enterprise), and what service users log in with.

create table roles (
    id uuid primary key,
    name text not null,
    description text not null default '',
    system boolean not null default false,      -- ADMIN and PUBLIC: cannot be dropped
    created_at timestamptz not null default now()
);
create unique index roles_name on roles (lower(name));

create table role_members (
    role_id uuid not null references roles on delete cascade,
    member_type text not null check (member_type in ('USER', 'ROLE')),
    member_id uuid not null,
    primary key (role_id, member_type, member_id)
);

-- `key` is that of entities; [] is the whole system. Folders of a source have privileges and no row in entities.
create table privileges (
    grantee_type text not null check (grantee_type in ('USER', 'ROLE')),
    grantee_id uuid not null,
    privilege text not null,
    object_type text not null,
    object_path text[] not null,
    key text not null,
    primary key (key, grantee_type, grantee_id, privilege)
);

alter table users add column identity_type text not null default 'REGULAR_USER'
    check (identity_type in ('REGULAR_USER', 'SERVICE_USER'));
alter table users add column oauth_client_id uuid unique;
alter table users add column tag uuid not null default gen_random_uuid();

create table client_secrets (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null,
    secret_hash bytea not null,                 -- SHA-256 of 256 random bits; shown once
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);

create table refresh_tokens (
    token_hash bytea primary key,
    user_id uuid not null references users on delete cascade,
    expires_at timestamptz not null
);


alter table entities drop constraint entities_kind_check;
alter table entities add constraint entities_kind_check
    check (kind in ('home', 'space', 'source', 'folder', 'view', 'table', 'function'));

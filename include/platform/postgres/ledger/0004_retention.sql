-- Retention: what was planned, what guards said, who approved, what went; legal holds; the clock of the last plan.
create table lakehouse.retention_plans (
    plan_id      bigint generated always as identity primary key,
    created_at   timestamptz not null default clock_timestamp(),
    created_by   text        not null,
    rules_digest text        not null,
    findings     jsonb       not null default '[]'
);

-- One rule of a plan. `document_key`: the object that lists every item, one JSON line each; `digest` its SHA-256.
-- `position`: items that are dealt with, so that a killed run goes on where it stopped.
create table lakehouse.retention_sections (
    plan_id       bigint      not null references lakehouse.retention_plans on delete cascade,
    rule          text        not null,
    kind          text        not null,
    status        text        not null check (status in (
        'nothing', 'skipped', 'blocked', 'asks', 'ready', 'done', 'rejected', 'outdated'
    )),
    findings      jsonb       not null default '[]',
    kept          jsonb       not null default '{}',
    total_count   bigint      not null default 0,
    total_bytes   bigint      not null default 0,
    planned_items bigint      not null default 0,
    planned_count bigint      not null default 0,
    planned_bytes bigint      not null default 0,
    sample        jsonb       not null default '[]',
    document_key  text,
    digest        text,
    due_at        timestamptz not null default clock_timestamp(),
    decided_by    text,
    decided_at    timestamptz,
    position      bigint      not null default 0,
    deleted       bigint      not null default 0,
    deleted_bytes bigint      not null default 0,
    gone          bigint      not null default 0,
    spared        bigint      not null default 0,
    ended_at      timestamptz,
    primary key (plan_id, rule)
);
create index retention_sections_open on lakehouse.retention_sections (rule) where status in ('asks', 'ready');

-- `pattern`: a glob over `<rule>/<item>`, as in `backup_sets/2026-11-*`. Only people place and lift holds.
create table lakehouse.legal_holds (
    name      text primary key,
    pattern   text        not null,
    reason    text        not null,
    placed_by text        not null,
    placed_at timestamptz not null default clock_timestamp(),
    lifted_by text,
    lifted_at timestamptz
);

create table lakehouse.retention_clock (
    only_row boolean     primary key default true check (only_row),
    seen_at  timestamptz not null
);

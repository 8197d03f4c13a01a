-- Alerts that fire, one row a subject: told once when they begin, again after a while, once when they end.
create table lakehouse.alert_states (
    alert    text        not null,
    subject  text        not null,
    text     text        not null,
    since    timestamptz not null default clock_timestamp(),
    told_at  timestamptz not null default clock_timestamp(),
    primary key (alert, subject)
);

-- When what a failed or cancelled job had left behind was undone; a job that never began leaves nothing.
alter table jobs add column settled_at timestamptz;
create index jobs_to_settle on jobs (id) where status in ('failed', 'cancelled') and settled_at is null;

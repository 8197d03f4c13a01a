-- What the dashboard on the platform's health says of backups: one row a set, with the last drill that restored it.
create view lakehouse.backup_facts as
select
    s.set_id,
    s.kind,
    s.started_at,
    s.completed_at,
    s.verified_at,
    s.bytes::double precision / 1000000 as megabytes,
    extract(epoch from clock_timestamp() - s.completed_at)::double precision / 3600 as age_hours,
    case
        when s.state <> 'complete' then upper(s.state)
        when s.verified_at is not null then 'VERIFIED'
        else 'NOT YET VERIFIED'
    end as proof,
    d.rto_seconds as restored_in_seconds
from lakehouse.backup_sets as s
left join lateral (
    select rto_seconds from lakehouse.backup_drills
    where set_id = s.set_id and passed
    order by drill_id desc limit 1
) as d on true
where s.state <> 'deleted';

-- A position is known to hold until somebody looked: when the lane stands still nobody looks any more, and lag grows.

-- What readers are promised, written by the lane with every position that it reads. Unknown is never kept.
alter table lakehouse.source_positions add column objective_seconds double precision;

create or replace view lakehouse.serving_status as
select
    m.entity,
    m.pipeline,
    case
        when m.mode = 'unified' and not coalesce(known.lag_seconds <= p.objective_seconds, false) then 'lagging'
        else m.mode
    end as mode,
    m.watermark,
    a.applied_lsn,
    greatest(p.lsn - a.applied_lsn, 0) as lag_bytes,
    greatest(known.lag_seconds, 0)::double precision as lag_seconds,
    m.epoch,
    m.reason,
    m.since
from lakehouse.serving_mode as m
left join lakehouse.applied_lsn as a on a.connection = m.connection
left join lakehouse.source_positions as p on p.connection = m.connection
cross join lateral (
    select extract(
        epoch from clock_timestamp() - case when a.applied_lsn >= p.lsn then p.read_at else a.moved_at end
    ) as lag_seconds
) as known;

-- What the dashboard on the platform's health reads: the ledger's facts as plain columns, one row a fact.
create view lakehouse.run_facts as
select
    dag_id,
    run_id,
    receipt ->> 'pipeline' as pipeline,
    receipt ->> 'run_type' as run_type,
    (receipt ->> 'started')::timestamptz as started_at,
    written_at as finished_at,
    extract(epoch from written_at - (receipt ->> 'started')::timestamptz)::double precision as run_seconds,
    (receipt -> 'dashboards' ->> 'p95_ms')::double precision as dashboard_p95_ms
from lakehouse.receipts;

create view lakehouse.stream_facts as
select
    r.dag_id,
    r.run_id,
    r.receipt ->> 'pipeline' as pipeline,
    r.written_at as finished_at,
    s.line ->> 'stream' as stream,
    (s.line ->> 'source_rows')::bigint as source_rows,
    (s.line ->> 'bronze_keys')::bigint as bronze_keys,
    coalesce((k.kept ->> 'rows')::bigint, 0) as silver_rows,
    coalesce((k.kept ->> 'quarantined')::bigint, 0) as quarantined_rows,
    r.written_at = max(r.written_at) over (partition by r.receipt ->> 'pipeline') as is_newest
from lakehouse.receipts as r
cross join lateral jsonb_array_elements(
    case when jsonb_typeof(r.receipt -> 'streams') = 'array' then r.receipt -> 'streams' else '[]'::jsonb end
) as s(line)
left join lateral (
    select r.receipt -> 'layers' -> 'silver' -> (s.line ->> 'stream') as kept
) as k on true;

create view lakehouse.dataset_facts as
select
    p.dataset,
    split_part(p.dataset, '.', 1) as layer,
    p.pipeline,
    p.published_at,
    extract(epoch from clock_timestamp() - p.published_at)::double precision / 3600 as age_hours,
    case when coalesce(s.stale, false) then 'STALE' else 'PUBLISHED' end as state,
    coalesce(s.reason, '') as reason
from (
    select distinct on (dataset) dataset, pipeline, published_at
    from lakehouse.publications
    order by dataset, publication_id desc
) as p
left join lakehouse.dataset_status as s on s.dataset = p.dataset;

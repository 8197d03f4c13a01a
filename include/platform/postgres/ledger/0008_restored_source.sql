-- A source that is restored from a backup goes on at earlier positions, under a new epoch. Positions of two epochs cannot
-- be compared, so what may be pruned says whose position it is.
alter table lakehouse.prune_queue add column epoch bigint;
update lakehouse.prune_queue as q
set epoch = coalesce((select w.epoch from lakehouse.watermarks as w where w.entity = q.entity), 0);
alter table lakehouse.prune_queue alter column epoch set not null;
alter table lakehouse.prune_queue drop constraint prune_queue_pkey;
alter table lakehouse.prune_queue add primary key (entity, epoch, watermark);

-- Where the source stood after the newest sync of a publication: a run that finds it further back must not go on.
alter table lakehouse.watermarks add column read_lsn bigint not null default 0;

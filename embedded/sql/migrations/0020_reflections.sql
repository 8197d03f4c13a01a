-- A materialization is an Iceberg table; what it was made from is compared by versions of tables and views.

alter table materializations
    drop column anchor_snapshot,
    add column metadata text not null default '',           -- location of the Iceberg table's metadata
    add column stored_columns jsonb not null default '[]',  -- name and type of each stored column
    add column parents jsonb not null default '[]';         -- reflections that were read in place of tables

alter table reflections add column failing_since timestamptz;

-- What an older program wrote cannot be read: build it again.
insert into doomed_folders (folder, doomed_at)
    select distinct folder, now() from materializations where state = 'DONE' and folder != ''
    on conflict do nothing;
update materializations set state = 'DEPRECATED' where state = 'DONE';
update reflections set state = 'REFRESH' where state = 'ACTIVE';

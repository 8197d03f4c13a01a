-- CREATE FUNCTION: a function is an entity of the catalog beside views and tables.
alter table entities drop constraint entities_kind_check;
alter table entities add constraint entities_kind_check
    check (kind in ('home', 'space', 'source', 'folder', 'view', 'table', 'function'));

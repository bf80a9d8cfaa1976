\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
select campfire.install();
select schema_name, version, number from campfire.installations;
select count(*) from campfire.projections;
rollback;

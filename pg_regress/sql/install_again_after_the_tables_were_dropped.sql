\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create schema other;
select campfire.install('other');
drop schema other cascade;
create schema other;
select campfire.install('other');
select schema_name, number from campfire.installations order by number;
select source from campfire.projections order by source::text;
rollback;

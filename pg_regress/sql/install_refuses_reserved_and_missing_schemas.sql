\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
select campfire.install('nowhere');
\echo :LAST_ERROR_SQLSTATE
select campfire.install('pg_catalog');
select campfire.install('campfire');
select campfire.install(null);
rollback;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create role campfire_test_dba;
grant create on database :"DBNAME" to campfire_test_dba;
set role campfire_test_dba;
select campfire.install();
reset role;
grant execute on function campfire.install(name), campfire.create_publication(name, regclass[]) to campfire_test_dba;
set role campfire_test_dba;
select campfire.install();
\echo :LAST_ERROR_SQLSTATE
select campfire.create_publication('mine');
rollback;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Another schema realtime is left alone, also one that pretends to be ours.
begin;
create schema realtime;
create function realtime.maintain() returns void language plpgsql as $$ begin raise exception 'called'; end $$;
select campfire.install_supabase_api();
\echo :LAST_ERROR_SQLSTATE
select campfire.remove_supabase_api();
\echo :LAST_ERROR_SQLSTATE
select campfire.maintain_supabase_api();
select * from campfire.realtime_probe('room:7', '{broadcast}');
\echo :LAST_ERROR_SQLSTATE
create role campfire_regress_squatter;
comment on schema realtime is 'campfire: mine';
alter schema realtime owner to campfire_regress_squatter;
select campfire.install_supabase_api();
\echo :LAST_ERROR_SQLSTATE
-- The hint, as it is.
alter schema realtime rename to realtime_before_campfire; select campfire.install_supabase_api();
select campfire.has_supabase_api();
set role service_role;
select campfire.install_supabase_api();
select campfire.remove_supabase_api();
reset role;
grant execute on function campfire.install_supabase_api() to service_role;
set role service_role;
select campfire.install_supabase_api();
\echo :LAST_ERROR_SQLSTATE
rollback;

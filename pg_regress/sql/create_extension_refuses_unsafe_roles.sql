\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Whoever may log in as one of these roles could choose the claims. Runs before the extension exists here.
begin;
do $$ begin create role anon; exception when duplicate_object then null; end $$;
alter role anon login;
create extension campfire;
alter role anon nologin bypassrls;
create extension campfire;
alter role anon nobypassrls superuser;
create extension campfire;
\echo :LAST_ERROR_SQLSTATE
alter role anon nosuperuser;
create extension campfire;
select rolname, rolsuper, rolcanlogin, rolbypassrls, rolreplication
from pg_roles where rolname in ('anon', 'authenticated', 'service_role') order by rolname;
select roleid::regrole from pg_auth_members where member = 'campfire_relay'::regrole order by roleid::regrole::text;
rollback;

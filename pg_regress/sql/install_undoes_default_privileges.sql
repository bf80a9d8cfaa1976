\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Supabase grants everything on new tables to its API roles.
begin;
create schema other;
alter default privileges grant all on tables to public, anon, authenticated, service_role;
alter default privileges in schema other grant all on tables to anon, authenticated;
select campfire.install('other');
select grantee, table_name, string_agg(privilege_type, ',' order by privilege_type) as privileges
from information_schema.table_privileges
where table_schema = 'other' and grantee <> current_user
group by grantee, table_name order by grantee, table_name;
rollback;

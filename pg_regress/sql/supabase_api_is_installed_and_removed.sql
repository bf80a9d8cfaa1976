\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Schema realtime comes and goes by two calls; rows and policies outlive a second installation.
begin;
select campfire.remove_supabase_api();
select campfire.has_supabase_api();
select campfire.require_supabase_api();
\echo :LAST_ERROR_SQLSTATE
select campfire.maintain_supabase_api();
select campfire.install_supabase_api();
select campfire.has_supabase_api();
select a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull from pg_attribute as a
where a.attrelid = 'realtime.messages'::regclass and a.attnum > 0 order by a.attnum;
select grantee, string_agg(privilege_type, ', ' order by privilege_type) from information_schema.role_table_grants
where table_schema = 'realtime' and table_name = 'messages' and grantee <> current_user group by grantee order by grantee;
select p.oid::regprocedure as function, p.prosecdef, p.proconfig, coalesce(array_to_string(array(
    select a.grantee::regrole::text from aclexplode(p.proacl) as a where a.grantee <> p.proowner order by 1), ', '), 'public') as callers
from pg_proc as p where p.pronamespace = 'realtime'::regnamespace order by p.oid::regprocedure::text collate "C";
select 'function' as what, p.oid::regprocedure::text as uncommented from pg_proc as p
where p.pronamespace = 'realtime'::regnamespace and obj_description(p.oid, 'pg_proc') is null
union all
select 'relation', c.oid::regclass::text from pg_class as c
where c.relnamespace = 'realtime'::regnamespace and c.relkind in ('r', 'p') and obj_description(c.oid, 'pg_class') is null
union all
select 'column', a.attname from pg_attribute as a
where a.attrelid = 'realtime.messages'::regclass and a.attnum > 0 and col_description(a.attrelid, a.attnum) is null;
-- Ordinary objects, not members of the extension: they are dumped whole.
select count(*) from pg_depend as d where d.deptype = 'e'
  and d.objid in (select oid from pg_proc where pronamespace = 'realtime'::regnamespace union all select 'realtime.messages'::regclass);

create policy members on realtime.messages for select to authenticated using (realtime.topic() = 'room:7');
insert into realtime.messages (topic, extension) values ('room:7', 'broadcast');
select campfire.install_supabase_api();
select count(*) from realtime.messages;
select polname from pg_policy where polrelid = 'realtime.messages'::regclass order by polname;

-- What the application put in there is not taken along.
create table realtime.mine (id int);
select campfire.remove_supabase_api();
\echo :LAST_ERROR_SQLSTATE
drop table realtime.mine;
select campfire.remove_supabase_api();
select to_regnamespace('realtime');
rollback;

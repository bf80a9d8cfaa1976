\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- 0.1.0 and an update against a new 0.2.0, object by object. Runs before the extension exists here.
begin;
-- The tables it reads are not there yet.
set check_function_bodies = off;
set client_min_messages = warning;
create function pg_temp.catalog() returns table (kind text, name text, fact text) language sql as $$
  with member as (
    select d.classid, d.objid from pg_depend as d join pg_extension as e on e.oid = d.refobjid
    where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'campfire'
  ), relation as (
    select c.* from pg_class as c where c.relnamespace = 'campfire'::regnamespace and c.relkind <> 't'
  )
  select 'extension', extname, format('%s %s %s', extversion, extrelocatable, (
    select string_agg(t.oid::regclass::text || coalesce(': ' || e.extcondition[t.n], ''), e'\n' order by t.oid::regclass::text)
    from unnest(e.extconfig) with ordinality as t (oid, n)))
  from pg_extension as e where extname = 'campfire'
  union all
  select 'member', pg_describe_object(classid, objid, 0), coalesce(obj_description(objid, classid::regclass::name), '') from member
  union all
  select 'privilege', pg_describe_object(m.classid, m.objid, 0), string_agg(format('%s %s %s', a.grantee::regrole, a.privilege_type, a.is_grantable), ', '
    order by a.grantee::regrole::text, a.privilege_type)
  from member as m
  left join pg_proc as p on m.classid = 'pg_proc'::regclass and p.oid = m.objid
  left join pg_class as c on m.classid = 'pg_class'::regclass and c.oid = m.objid
  cross join lateral aclexplode(coalesce(p.proacl, c.relacl)) as a
  group by m.classid, m.objid
  union all
  select 'function', p.oid::regprocedure::text, format('%s %s %s', pg_get_functiondef(p.oid), p.probin, p.proowner::regrole)
  from pg_proc as p where p.pronamespace = 'campfire'::regnamespace
  union all
  select 'relation', r.oid::regclass::text, format('%s %s %s %s', r.relkind, r.relpersistence, r.relowner::regrole,
    case when r.relkind = 'v' then pg_get_viewdef(r.oid) when r.relkind = 'i' then pg_get_indexdef(r.oid) end)
  from relation as r
  union all
  select 'column', format('%s.%I', r.oid::regclass, a.attname), format('%s %s %s %s %s %s', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    a.attidentity, (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef as d where d.adrelid = a.attrelid and d.adnum = a.attnum), col_description(r.oid, a.attnum))
  from relation as r join pg_attribute as a on a.attrelid = r.oid where a.attnum > 0 and r.relkind <> 'i'
  union all
  select 'constraint', format('%s.%I', r.oid::regclass, k.conname), pg_get_constraintdef(k.oid)
  from relation as r join pg_constraint as k on k.conrelid = r.oid
  union all
  select 'trigger', format('%s.%I', r.oid::regclass, t.tgname), pg_get_triggerdef(t.oid)
  from relation as r join pg_trigger as t on t.tgrelid = r.oid where not t.tgisinternal
  union all
  select 'event trigger', t.evtname, format('%s %s %s %s', t.evtevent, t.evtfoid::regprocedure, t.evtenabled, t.evttags)
  from pg_event_trigger as t join member as m on m.classid = 'pg_event_trigger'::regclass and m.objid = t.oid
  union all
  select 'setting', d.name, d::text from campfire.setting_defaults as d
  union all
  select 'table', b.table_name, b::text from campfire.builtin_tables as b
  union all
  select 'route', b.key::text, b::text from campfire.builtin_routes as b
  union all
  -- What install() made, and what it makes when it is run again after the update.
  select 'chat', c.oid::regclass::text, format('%s %s %s %s', c.relkind, c.relacl::text, c.relrowsecurity, c.relreplident)
  from pg_class as c where c.relnamespace = 'public'::regnamespace
  union all
  select 'policy', format('%s %s', p.tablename, p.policyname), p::text from pg_policies as p where p.schemaname = 'public'
  union all
  select 'chat trigger', t.tgname, pg_get_triggerdef(t.oid)
  from pg_trigger as t join pg_class as c on c.oid = t.tgrelid where c.relnamespace = 'public'::regnamespace and not t.tgisinternal
  union all
  select 'published', format('%s %s', pubname, tablename), attnames::text from pg_publication_tables
  union all
  select 'installation', schema_name, version from campfire.installations
$$;

create extension campfire version '0.1.0';
select campfire.install();
-- As 0.1.0 left it: every function of the library must be bound to the new one.
update pg_proc set probin = 'campfire-0.1.0' where pronamespace = 'campfire'::regnamespace and probin = 'campfire-0.2.0';
insert into organizations (name) values ('older than the update');
set client_min_messages = warning;
alter extension campfire update;
select campfire.install();
select schema_name, version from campfire.installations;
create temporary table upgraded as select * from pg_temp.catalog();
select name from organizations;
set client_min_messages = warning;

drop extension campfire cascade;
drop publication campfire, campfire_control;
drop table read_receipts, realtime_conversations, messages, conversations, agents, organizations;
drop type conversation_status, conversation_priority;

create extension campfire;
select campfire.install();
create temporary table fresh as select * from pg_temp.catalog();

select 'only upgraded' as side, * from (select * from upgraded except select * from fresh) as d
union all
select 'only fresh', * from (select * from fresh except select * from upgraded) as d
order by 2, 3, 1;
select count(*) > 300 as compared_enough, count(distinct kind) as kinds from fresh;
-- Every release can be updated to this one.
select source, target, path from pg_extension_update_paths('campfire') where path is null and target = (select default_version from pg_available_extensions where name = 'campfire');
rollback;

-- What an extension has made, one fact a row, without oids and without anything that differs between two databases in which
-- the same was made. `jsonb_build_array`, so that a fact with line feeds is one line.
set search_path = pg_catalog;
set timezone = 'UTC';
with extension as (
  select * from pg_extension where extname = 'campfire'
), member as (
  select d.classid, d.objid
  from pg_depend as d join extension as e on e.oid = d.refobjid
  where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
), relation as (
  -- Indexes and sequences of columns are members by their tables.
  select c.* from pg_class as c
  where c.relnamespace in (select m.objid from member as m where m.classid = 'pg_namespace'::regclass) and c.relkind <> 't'
), attribute as (
  -- By their order, not by their numbers: an update may leave gaps.
  select r.oid::regclass as relation, a.*, row_number() over (partition by r.oid order by a.attnum) as place
  from relation as r join pg_attribute as a on a.attrelid = r.oid
  where r.relkind <> 'i' and a.attnum > 0 and not a.attisdropped
), privilege as (
  select m.classid, m.objid, coalesce(p.proacl, c.relacl, n.nspacl, t.typacl) as now,
    (select i.initprivs from pg_init_privs as i where (i.classoid, i.objoid, i.objsubid) = (m.classid, m.objid, 0)) as initial
  from member as m
  left join pg_proc as p on m.classid = 'pg_proc'::regclass and p.oid = m.objid
  left join pg_class as c on m.classid = 'pg_class'::regclass and c.oid = m.objid
  left join pg_namespace as n on m.classid = 'pg_namespace'::regclass and n.oid = m.objid
  left join pg_type as t on m.classid = 'pg_type'::regclass and t.oid = m.objid
), fact (kind, name, detail) as (
  select 'extension', e.extname, format('%s %s %s', e.extowner::regrole, e.extnamespace::regnamespace, e.extrelocatable)
  from extension as e
  union all
  select 'dumped table', t.oid::regclass::text, e.extcondition[t.n]
  from extension as e cross join unnest(e.extconfig) with ordinality as t (oid, n)
  union all
  select 'member', pg_describe_object(m.classid, m.objid, 0), null from member as m
  union all
  select 'comment', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
  from pg_description as d
  where (d.classoid, d.objoid) in (select m.classid, m.objid from member as m)
    or d.classoid = 'pg_class'::regclass and d.objoid in (select r.oid from relation as r)
    or d.classoid = 'pg_trigger'::regclass and d.objoid in (
      select t.oid from pg_trigger as t where t.tgrelid in (select r.oid from relation as r))
  union all
  -- Those that the script gave are not dumped, those of a DBA are: an update has to give the same.
  select 'privilege', format('%s to %s', pg_describe_object(p.classid, p.objid, 0), case a.grantee when 0 then 'public' else a.grantee::regrole::text end),
    string_agg(format('%s %s%s', a.privilege_type, a.is_grantable, a.note), ', ' order by a.privilege_type, a.note)
  from privilege as p
  cross join lateral (
    select x.*, '' as note from aclexplode(p.now) as x
    union all
    select x.*, ' from the script' from aclexplode(p.initial) as x) as a
  group by p.classid, p.objid, a.grantee
  union all
  select 'function', f.oid::regprocedure::text, format('%s owner %s', pg_get_functiondef(f.oid), f.proowner::regrole)
  from pg_proc as f join member as m on m.classid = 'pg_proc'::regclass and m.objid = f.oid
  union all
  select 'relation', r.oid::regclass::text, format('%s %s %s %s %s %s %s', r.relkind, r.relpersistence, r.relowner::regrole, r.relrowsecurity,
    r.relforcerowsecurity, r.relreplident, r.reloptions)
  from relation as r
  union all
  select 'view', r.oid::regclass::text, pg_get_viewdef(r.oid) from relation as r where r.relkind in ('v', 'm')
  union all
  select 'rule', u.rulename, pg_get_ruledef(u.oid)
  from relation as r join pg_rewrite as u on u.ev_class = r.oid where u.rulename <> '_RETURN'
  union all
  select 'index', r.oid::regclass::text, pg_get_indexdef(r.oid) from relation as r where r.relkind = 'i'
  union all
  select 'sequence', s.seqrelid::regclass::text, format('%s %s %s %s %s %s', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle)
  from relation as r join pg_sequence as s on s.seqrelid = r.oid
  union all
  select 'column', format('%s.%I', a.relation, a.attname), format('%s %s %s %s %s %s %s', a.place, format_type(a.atttypid, a.atttypmod),
    a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid), a.attacl)
  from attribute as a left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
  union all
  select 'constraint', format('%s.%I', r.oid::regclass, k.conname), pg_get_constraintdef(k.oid)
  from relation as r join pg_constraint as k on k.conrelid = r.oid
  union all
  select 'policy', format('%s.%I', r.oid::regclass, p.polname), format('%s %s %s %s', p.polcmd, p.polroles::regrole[],
    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from relation as r join pg_policy as p on p.polrelid = r.oid
  union all
  select 'trigger', format('%s.%I', r.oid::regclass, t.tgname), format('%s %s', t.tgenabled, pg_get_triggerdef(t.oid))
  from relation as r join pg_trigger as t on t.tgrelid = r.oid where not t.tgisinternal
  union all
  select 'event trigger', t.evtname, format('%s %s %s %s %s', t.evtevent, t.evtfoid::regprocedure, t.evtenabled, t.evttags, t.evtowner::regrole)
  from pg_event_trigger as t join member as m on m.classid = 'pg_event_trigger'::regclass and m.objid = t.oid
  union all
  select 'type', t.oid::regtype::text, format('%s %s %s %s %s', t.typtype, t.typowner::regrole, nullif(t.typbasetype, 0)::regtype, (
      select array_agg(e.enumlabel order by e.enumsortorder) from pg_enum as e where e.enumtypid = t.oid), (
      select array_agg(pg_get_constraintdef(k.oid) order by k.conname) from pg_constraint as k where k.contypid = t.oid))
  from pg_type as t join member as m on m.classid = 'pg_type'::regclass and m.objid = t.oid
)
select jsonb_build_array(f.kind, f.name, coalesce(f.detail, '')) from fact as f;

-- Whether a publication carries what it must, and nothing it must not: for the relay, the guard and people alike.

create function campfire.publishes_generated(publication name) returns boolean
language sql stable strict set search_path = pg_catalog, pg_temp
-- A column of the catalog that Postgres 18 brought.
return coalesce((
  select pg_catalog.to_jsonb(p) ->> 'pubgencols' = 's' from pg_catalog.pg_publication as p where p.pubname = publication), false);
comment on function campfire.publishes_generated(name) is
  'Internal. Whether a publication carries stored generated columns of tables that have no column list.';

create function campfire.publication_verdict(publication name)
returns table (kind text, root regclass, relation regclass, column_name name, type_name text, schema_name name, problem text)
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  with target as (
    select p.oid, p.puballtables, campfire.publishes_generated(publication) as generates
    from pg_catalog.pg_publication as p where p.pubname = publication
  ), carried as (
    select r.prrelid as root, campfire.qualified_name(r.prrelid) as qualified,
      campfire.column_list(publication, r.prrelid) as list
    from pg_catalog.pg_publication_rel as r join target on target.oid = r.prpubid
  ), written as (
    -- Rows of a partitioned table are written to its leaves, each with its own replica identity.
    select t.root, t.qualified, t.list, leaf.relid as relation, campfire.qualified_name(leaf.relid) as leaf_name,
      campfire.replica_identity_columns(leaf.relid) as identity_columns
    from carried as t
    cross join lateral (
      select t.root as relid
      union
      select p.relid from pg_catalog.pg_partition_tree(t.root) as p where p.isleaf
    ) as leaf
  )
  select 'all_tables'::text, null::regclass, null::regclass, null::name, null::text, null::name,
    pg_catalog.format('publication "%s" publishes all tables, so also columns that are not scalar', publication)
  from target where target.puballtables
  union all
  select 'schema', null, null, null, null, n.nspname,
    pg_catalog.format('publication "%s" publishes all tables of schema "%s", so also columns that are not scalar', publication, n.nspname)
  from pg_catalog.pg_publication_namespace as s
  join target on target.oid = s.pnpubid
  join pg_catalog.pg_namespace as n on n.oid = s.pnnspid
  union all
  select 'column', t.root::regclass, t.root::regclass, k.column_name, k.type_name, null,
    pg_catalog.format('column %s.%I is published, but cannot be: %s', t.qualified, k.column_name,
      case when t.list is null then pg_catalog.format('type %s is not scalar', k.type_name) else k.reason end)
  from carried as t
  cross join target
  cross join lateral campfire.publishable_columns(t.root::regclass) as k
  join pg_catalog.pg_attribute as a on a.attrelid = t.root and a.attname = k.column_name
  -- Without a list generated columns stay at home, unless the publication says otherwise.
  where not k.publishable and case when t.list is null
    then k.reason like 'type %' or target.generates and a.attgenerated = 's' and not campfire.is_scalar(a.atttypid::regtype)
    else k.column_name = any (t.list) end
  union all
  select 'identity_missing', w.root::regclass, w.relation::regclass, null, null, null,
    pg_catalog.format('%s has no replica identity: its rows cannot be updated or deleted', w.leaf_name)
  from written as w where w.identity_columns is null
  union all
  select 'identity_uncovered', w.root::regclass, w.relation::regclass, null, null, null,
    pg_catalog.format('the column list of %s does not cover its replica identity: its rows cannot be updated or deleted', w.leaf_name)
  from written as w join pg_catalog.pg_class as c on c.oid = w.relation
  -- A list beside replica identity full is never enough, even of all columns.
  where w.list is not null and (c.relreplident = 'f' or not w.list @> w.identity_columns)
  union all
  -- Postgres 18 refuses every UPDATE and DELETE of such a table; before, it kept generated columns to itself.
  select 'identity_generated', w.root::regclass, w.relation::regclass, a.attname, null, null,
    pg_catalog.format('generated column %s.%I is in the replica identity: its rows cannot be updated or deleted', w.leaf_name, a.attname)
  from written as w
  cross join target
  join pg_catalog.pg_attribute as a on a.attrelid = w.relation and a.attgenerated <> '' and a.attname = any (w.identity_columns)
  where pg_catalog.current_setting('server_version_num')::int >= 180000
    and not (target.generates and a.attgenerated = 's' and w.list is null)
  union all
  select 'filter_uncovered', w.root::regclass, w.relation::regclass, a.attname, null, null,
    pg_catalog.format('the row filter of %s uses column %I, which the replica identity does not cover: its rows cannot be updated or deleted',
      w.leaf_name, a.attname)
  from written as w
  cross join lateral unnest(campfire.filter_columns(publication, w.root::regclass)) as a (attname)
  where a.attname <> all (w.identity_columns)
  union all
  -- pgoutput tells subscribers the replica identity of the partitioned table, whatever the partition logged by.
  select 'identity_partition', w.root::regclass, w.relation::regclass, null, null, null,
    pg_catalog.format('the replica identity of %s is not that of %s, which it is a partition of: deleted and moved rows could not be routed',
      w.leaf_name, w.qualified)
  from written as w
  where w.relation <> w.root and w.identity_columns is not null
    and campfire.partition_identity_fix(w.root::regclass, w.relation::regclass) is not null
  union all
  select 'identity_unroutable', t.root::regclass, t.root::regclass, null, null, null,
    pg_catalog.format('the replica identity of %s must %s: deleted and moved rows could not be routed', t.qualified,
      case when needed.columns is null then 'be full' else pg_catalog.format('cover (%s)', pg_catalog.array_to_string(needed.columns, ', ')) end)
  from carried as t
  join pg_catalog.pg_class as c on c.oid = t.root
  -- A row if the table is routed by more than its key; no columns: by all.
  join lateral (
    select b.identity_columns from campfire.builtin_table(t.root::regclass) as b where not b.listed or b.identity_columns is not null
    union
    select null where exists (select from campfire.projections as p where p.mirror = t.root)
  ) as needed (columns) on true
  where case when needed.columns is null then c.relreplident not in ('f', 'n')
    else not campfire.replica_identity_columns(t.root) @> needed.columns end;
end;
comment on function campfire.publication_verdict(name) is
  'Internal. The one verdict on a publication''s tables, asked by campfire.check_publication() and by the guard: what in it would '
  'break a subscriber (kinds all_tables, schema, column), a writer (identity_missing, identity_uncovered, identity_generated, '
  'filter_uncovered), or the '
  'routing of deleted and moved rows (identity_partition, identity_unroutable).';

create function campfire.generated_identity_fix(publication name, root regclass, relation regclass, generated name) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
begin
  if exists (select from campfire.projections as p where p.mirror = root)
    or exists (select from campfire.builtin_table(root) as b where not b.listed) then
    -- Routed by every column, so it must stay full.
    return format('alter table %s drop column if exists %I;', campfire.qualified_name(relation), generated);
  end if;
  -- Of a partitioned table, each partition has an identity of its own.
  return campfire.publish_anew(publication, root, (
    select string_agg(campfire.suggested_identity(t.relid), ' ' order by t.relid <> root, t.relid)
    from (select root as relid union select p.relid from pg_partition_tree(root) as p) as t
    where campfire.replica_identity_columns(t.relid) && array(
      select a.attname from pg_attribute as a where a.attrelid = t.relid and a.attgenerated <> '' and not a.attisdropped)));
end
$$;
comment on function campfire.generated_identity_fix(name, regclass, regclass, name) is
  'Internal. SQL that takes a generated column out of a replica identity.';

create function campfire.publication_refusal(publication name) returns table (problem text, fix text)
language plpgsql stable strict set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  rows_name constant name := coalesce(
    (select coalesce(m.control_of, m.name) from campfire.managed_publications as m where m.name = publication),
    case when publication like '%\_control' then left(publication, -8) else publication end);
  target pg_publication;
begin
  select * into target from pg_publication as p where p.pubname = publication;
  if not found then
    problem := format('publication "%s" does not exist', publication);
    fix := format('select campfire.create_publication(%L);', rows_name);
    return next;
    return;
  end if;
  if target.puballtables then
    problem := format('publication "%s" publishes all tables, so also columns that are not scalar', publication);
    fix := format('drop publication %I; select campfire.create_publication(%L);', publication, rows_name);
    return next;
    return;
  end if;
  return query
  select format('publication "%s" publishes all tables of schema "%s", so also columns that are not scalar', publication, n.nspname),
    format('alter publication %I drop tables in schema %I; select campfire.create_publication(%L);', publication, n.nspname, rows_name)
  from pg_publication_namespace as s join pg_namespace as n on n.oid = s.pnnspid
  where s.pnpubid = target.oid
  order by n.nspname;
  if not (target.pubinsert and target.pubupdate and target.pubdelete and target.pubtruncate) then
    problem := format('publication "%s" leaves out some operations', publication);
    fix := format('alter publication %I set (publish = ''insert, update, delete, truncate'');', publication);
    return next;
  end if;
end
$$;
comment on function campfire.publication_refusal(name) is
  'Internal. Why the relay refuses to read a publication at all, and SQL that mends it. What concerns single tables keeps it from nothing.';

create function campfire.check_publication(publication name default null)
returns table (relation regclass, column_name name, type_name text, problem text, fix text)
-- Compiling the queries would take a hundred times as long as running them.
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  rows_name name := publication; -- the publication of rows that this one is, or is the control twin of
  control boolean := false;
  standard boolean := true;
  managed name[];
begin
  if publication is null then
    managed := array(select m.name from campfire.managed_publications as m order by coalesce(m.control_of, m.name), m.name);
    -- What concerns all of them is said once.
    return query
    select once.relation, once.column_name, once.type_name, once.problem, once.fix
    from (
      select distinct on (c.problem) c.*, m.n as place
      from unnest(case when managed = '{}' then '{campfire}'::name[] else managed end) with ordinality as m (name, n)
      cross join lateral campfire.check_publication(m.name) with ordinality as c (relation, column_name, type_name, problem, fix, n)
      order by c.problem, m.n
    ) as once
    order by once.place, once.n;
    return;
  end if;

  select coalesce(m.control_of, m.name), m.control_of is not null, m.standard
  into rows_name, control, standard
  from campfire.managed_publications as m where m.name = publication;
  if not found then
    control := publication like '%\_control';
    rows_name := case when control then left(publication, -8) else publication end;
    standard := true;
  end if;

  return query select null::regclass, null::name, null::text, r.problem, r.fix from campfire.publication_refusal(publication) as r;
  return query select null::regclass, null::name, null::text, w.problem, w.fix from campfire.wal_level_problem() as w;
  if not exists (select from pg_publication as p where p.pubname = publication and not p.puballtables) then
    return;
  end if;

  if standard then
    return query select i.* from campfire.installation_problems(publication, control, rows_name) as i;
  end if;
  if not control then
    return query select p.* from campfire.replaced_tables() as p;
    return query select p.* from campfire.check_projections() as p;
    return query select r.* from campfire.route_problems() as r;
  end if;

  return query
  select v.root, v.column_name, v.type_name, v.problem,
    case
      when v.kind = 'identity_generated' then campfire.generated_identity_fix(publication, v.root, v.relation, v.column_name)
      when v.kind = 'column' and (t.is_full or v.column_name = any (t.identity_columns))
        then campfire.suggested_identity(v.root) || format(' select campfire.publish(%L, %L);', publication, t.qualified)
      when v.kind = 'column' then format('select campfire.publish(%L, %L, %L);', publication, t.qualified, (
        select array_agg(k.column_name) from campfire.publishable_columns(v.root) as k
        where k.publishable and (t.list is null or k.column_name = any (t.list || t.identity_columns)))::text)
      when v.kind = 'filter_uncovered' then format('alter publication %1$I drop table only %2$s; select campfire.publish(%1$L, %2$L%3$s);',
        publication, t.qualified, ', ' || quote_literal(t.list::text))
      when v.kind = 'identity_partition' then campfire.partition_identity_fix(v.root, v.relation)
      when v.kind in ('identity_missing', 'identity_unroutable') or v.relation <> v.root
        then coalesce(campfire.partition_identity_fix(v.root, v.relation), campfire.suggested_identity(v.relation))
      when t.is_full and exists (select from campfire.publishable_columns(v.root) as k where k.reason like 'type %')
        then campfire.suggested_identity(v.root)
      when t.is_full then format('select campfire.publish(%L, %L);', publication, t.qualified)
      else format('select campfire.publish(%L, %L, %L);', publication, t.qualified, (
        select array_agg(k.column_name) from campfire.publishable_columns(v.root) as k
        where k.column_name = any (t.list || t.identity_columns))::text)
    end
  from campfire.publication_verdict(publication) as v
  cross join lateral (
    select campfire.qualified_name(v.root) as qualified, campfire.column_list(publication, v.root) as list,
      campfire.replica_identity_columns(v.root) as identity_columns,
      (select c.relreplident = 'f' from pg_class as c where c.oid = v.root) as is_full
  ) as t
  where v.kind not in ('all_tables', 'schema')
  order by 1, 2;
end
$$;
comment on function campfire.check_publication(name) is
  'What is wrong with a publication, and SQL that mends it; no rows: nothing. Asks also whether the tables of every installation and their '
  'columns are there, whether a table was replaced by another of its name, whether routes reach anybody, and whether wal_level lets the '
  'relay read. Without a name: all that campfire looks after. Example: select * from campfire.check_publication();';

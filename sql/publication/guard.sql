-- The guard: event triggers that look at managed publications after DDL, and refuse what would break a subscriber or
-- an application's UPDATE. They judge by the catalog, not by the text of the command: lists of commands miss some.
--
-- A problem that was there before (made while the guard was off) refuses only commands that touch the same table.

-- Oids tell a rename from a drop. Only for as long as the catalog agrees: never dumped, and made again by itself.
create table campfire.publication_oids (
  publication oid primary key,
  name name not null unique
);
comment on table campfire.publication_oids is 'Internal. Managed publications by oid, so that the guard can follow a rename; never dumped.';

create function campfire.remember_publications() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  delete from campfire.publication_oids as o
  where not exists (
    select from pg_publication as p join campfire.managed_publications as m on m.name = p.pubname
    where p.oid = o.publication and p.pubname = o.name);
  insert into campfire.publication_oids (publication, name)
  select p.oid, p.pubname
  from pg_publication as p join campfire.managed_publications as m on m.name = p.pubname
  where not exists (select from campfire.publication_oids as o where o.publication = p.oid)
  -- A parallel restore gets here in several sessions at once: none fails, and all go in one order.
  order by p.oid
  on conflict do nothing;
end
$$;
comment on function campfire.remember_publications() is
  'Internal event trigger: notes the oids of managed publications before a command on publications.';

create function campfire.publish_anew(publication name, root regclass, identity text, dropped name[] default '{}') returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(root);
  list constant name[] := campfire.column_list(publication, root);
begin
  return format('select campfire.unpublish(%1$L, %2$L); %3$sselect campfire.publish(%1$L, %2$L%4$s);', publication, qualified, identity || ' ',
    case
      -- Full goes without a list.
      when identity like '%replica identity full;' or list is null and dropped = '{}' then ''
      -- What was left out stays out; what the new identity needs comes in.
      else format(', array(select c.column_name from campfire.publishable_columns(%L) as c where c.publishable%s%s)', qualified,
        ' and c.column_name = any (' || quote_literal(list::text) || '::name[]'
          || case when identity is null then ')' else format(' || campfire.replica_identity_columns(%L))', qualified) end,
        case when dropped <> '{}' then format(' and c.column_name <> all (%L::name[])', dropped) end)
    end);
end
$$;
comment on function campfire.publish_anew(name, regclass, text, name[]) is
  'Internal. SQL that takes a table out of a publication, gives it another replica identity, and publishes the columns it had.';

create function campfire.guard_fix(
  publication name, kind text, root regclass, relation regclass, column_name name, schema_name name) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  table_name constant text := campfire.qualified_name(root);
  list constant name[] := campfire.column_list(publication, root);
  is_full constant boolean := (select c.relreplident = 'f' from pg_class as c where c.oid = root);
  is_mirror constant boolean := exists (select from campfire.projections as p where p.mirror = root);
  identity_columns constant name[] := campfire.replica_identity_columns(relation);
  suggested constant text := coalesce(campfire.partition_identity_fix(root, relation), campfire.suggested_identity(relation));
  mirror constant text := (
    select campfire.qualified_name(p.mirror) from campfire.projections as p join pg_class as c on c.oid = p.source
    where p.source = root and c.relname <> 'conversations');
  standard campfire.builtin_tables;
begin
  select b.* into standard from campfire.builtin_table(root) as b;

  if kind = 'all_tables' then
    return format('select campfire.create_publication(%L);', publication);
  elsif kind = 'schema' then
    return format(
      'select campfire.publish(%L, c.oid) from pg_catalog.pg_class as c where c.relnamespace = %L::regnamespace and c.relkind in (''r'', ''p'') '
      'and c.relpersistence = ''p'' and not c.relispartition and campfire.replica_identity_columns(c.oid) is not null;',
      publication, quote_ident(schema_name));
  elsif kind = 'identity_generated' then
    return campfire.generated_identity_fix(publication, root, relation, column_name);
  elsif kind = 'column' and mirror is not null then
    return format('select campfire.publish(%L, %L);', publication, mirror);
  elsif kind = 'column' and (is_mirror or not standard.listed) then
    -- Routed by every column, so it cannot go without one: there a complex value is text.
    return case
      when column_name = any (standard.columns)
        or exists (select from campfire.projections as p where p.mirror = root and column_name = any (p.columns))
        then format('alter table %1$s alter column %2$I type text using %2$I::text;', table_name, column_name)
      else format('alter table %s add column if not exists %I text;', table_name, column_name) end;
  elsif kind = 'column' and column_name = any (standard.columns) then
    return format('alter table %1$s alter column %2$I type text using %2$I::text;', table_name, column_name);
  elsif kind = 'column' and (is_full or column_name = any (identity_columns)) then
    return campfire.publish_anew(publication, root, suggested, array[column_name]);
  elsif kind = 'column' and list is null then
    return format('select campfire.publish(%L, %L);', publication, table_name);
  elsif kind = 'column' then
    return format('select campfire.publish(%L, %L, %L);', publication, table_name, (
      select array_agg(c.column_name) from campfire.publishable_columns(root) as c
      where c.publishable and c.column_name = any (list || identity_columns))::text);
  elsif kind = 'filter_uncovered' then
    return campfire.publish_anew(publication, root, null);
  elsif kind = 'identity_partition' then
    return campfire.partition_identity_fix(root, relation);
  elsif is_mirror or standard.table_name is not null or relation <> root then
    return suggested;
  elsif identity_columns is not null and exists (
      select from pg_class as c where c.oid = relation and c.relreplident = 'f')
    and (select bool_and(c.publishable) from campfire.publishable_columns(root) as c) then
    return campfire.publish_anew(publication, root, format('alter table %s replica identity full;', table_name));
  elsif identity_columns is not null and list is not null and not is_full and not exists (
      select from campfire.publishable_columns(root) as c where c.column_name = any (identity_columns) and not c.publishable) then
    return format('select campfire.publish(%L, %L, %L);', publication, table_name, (
      select array_agg(c.column_name) from campfire.publishable_columns(root) as c
      where c.column_name = any (list || identity_columns))::text);
  end if;
  return campfire.publish_anew(publication, root, suggested);
end
$$;
comment on function campfire.guard_fix(name, text, regclass, regclass, name, name) is
  'Internal. SQL that mends what the guard refused, for the state before the refused command.';

create function campfire.refuse(publication name, problems jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  problem constant jsonb := problems -> 0;
  complaint constant text := (select string_agg(p ->> 'problem', e'\n') from jsonb_array_elements(problems) as p);
  remade constant text := (
    -- A publication that the refused command made is gone with it.
    select format('select campfire.create_publication(%L); ', coalesce(m.control_of, m.name))
    from campfire.managed_publications as m
    where m.name = publication and problem ->> 'kind' <> 'all_tables'
      and not exists (select from campfire.publication_oids as o where o.name = publication));
  fix constant text := coalesce(remade, '') || campfire.guard_fix(publication, problem ->> 'kind', (problem ->> 'root')::oid::regclass,
    (problem ->> 'relation')::oid::regclass, (problem ->> 'column_name')::name, (problem ->> 'schema_name')::name);
begin
  if campfire.is_restoring() and (problem ->> 'kind' in ('identity_missing', 'identity_partition')
      or problem ->> 'kind' = 'identity_unroutable'
        and (select c.relreplident = 'd' from pg_class as c where c.oid = (problem ->> 'root')::oid)) then
    -- A parallel restore may get to the publication before it gets to the key, or to the index that is the identity; one
    -- with --clean drops these before the table.
    raise warning using
      errcode = 'object_not_in_prerequisite_state',
      message = problem ->> 'problem', detail = 'Let through because the session restores a dump.', hint = fix;
    return;
  end if;
  perform campfire.refuse_command(
    case when problem ->> 'kind' in ('column', 'all_tables', 'schema') then '0A000' else '55000' end,
    problem ->> 'problem', format(e'campfire guards publication "%s".\n%s', publication, complaint), fix);
end
$$;
comment on function campfire.refuse(name, jsonb) is
  'Internal. Raises 0A000 or 55000 for what the guard found, with SQL that mends the first problem.';

create function campfire.guard_publications() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  relations oid[];
  publications oid[];
  whole oid[];
  managed record;
  renamed record;
  problems jsonb;
  altered oid[]; -- tables that a command named itself, which is then taken at its word
  parted record;
begin
  altered := array(
    select c.objid from pg_event_trigger_ddl_commands() as c
    -- Not by the command's own tag: CREATE TABLE with a key is told as an ALTER TABLE, too.
    where c.classid = 'pg_class'::regclass and tg_tag = 'ALTER TABLE' and not c.in_extension);
  select
    coalesce(array_agg(c.objid) filter (where c.classid = 'pg_class'::regclass), '{}')
      || coalesce(array_agg(r.prrelid) filter (where r.oid is not null), '{}')
      || coalesce(array_agg(t.oid) filter (where t.oid is not null), '{}'),
    coalesce(array_agg(c.objid) filter (where c.classid = 'pg_publication'::regclass), '{}'),
    coalesce(array_agg(s.pnpubid) filter (where s.oid is not null), '{}')
  into relations, publications, whole
  from pg_event_trigger_ddl_commands() as c
  left join pg_publication_rel as r on c.classid = 'pg_publication_rel'::regclass and r.oid = c.objid
  left join pg_publication_namespace as s on c.classid = 'pg_publication_namespace'::regclass and s.oid = c.objid
  left join pg_class as t on t.reloftype = c.objid and c.classid = 'pg_type'::regclass
  where not c.in_extension;
  if relations = '{}' and publications = '{}' and whole = '{}' then
    return;
  end if;

  -- A rename takes the registration along, and the twin.
  for renamed in
    select o.name as old, p.pubname as new, m.control_of
    from campfire.publication_oids as o
    join pg_publication as p on p.oid = o.publication
    join campfire.managed_publications as m on m.name = o.name
    where o.publication = any (publications) and p.pubname <> o.name
  loop
    if renamed.control_of is not null and renamed.new <> (renamed.control_of::text || '_control')::name then
      perform campfire.refuse_command('55000',
        format('publication "%s" must be called like the publication it belongs to', renamed.old), null,
        format('alter publication %I rename to %I;', renamed.control_of, regexp_replace(renamed.new, '_control$', '')));
    elsif renamed.control_of is null and octet_length(renamed.new::text || '_control') > 63 then
      perform campfire.refuse_command('22023', format('"%s" cannot be the name of a publication', renamed.new), null,
        'The name is at most 55 bytes long: its twin is called <name>_control.');
    end if;
    update campfire.managed_publications as m set name = renamed.new where m.name = renamed.old;
    update campfire.publication_oids as o set name = renamed.new where o.name = renamed.old;
    update campfire.managed_publications as m set control_of = renamed.new where m.control_of = renamed.old;
    if renamed.control_of is null and exists (select from pg_publication where pubname = (renamed.old::text || '_control')::name) then
      execute format('alter publication %I rename to %I', renamed.old::text || '_control', renamed.new::text || '_control');
    end if;
  end loop;

  -- Children take part in what is done to their parents.
  with recursive tree (oid) as (
    select unnest(relations)
    union
    select i.inhrelid from tree join pg_inherits as i on i.inhparent = tree.oid
  )
  select coalesce(array_agg(tree.oid), '{}') into relations from tree;

  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') and exists (
      select from campfire.managed_publications as m join pg_publication as p on p.pubname = m.name
      where p.oid = any (publications || whole) or exists (
        -- These two functions look at the catalogs as they are now, which queries of such a transaction do not.
        select from pg_get_publication_tables(p.pubname) as carried
        join (select t.oid from unnest(relations) as t (oid)
              union select a.relid from unnest(relations) as t (oid) cross join lateral pg_partition_ancestors(t.oid) as a) as touched
          on touched.oid = carried.relid)) then
    perform campfire.require_read_committed('what campfire publishes');
  end if;

  -- Partitions that were made or attached, and those of a table that gets another replica identity, get the table's.
  for parted in
    select distinct c.oid::regclass as root
    from unnest(relations) as t (oid)
    cross join lateral (select t.oid union select a.relid from pg_partition_ancestors(t.oid) as a) as carried (oid)
    join pg_class as c on c.oid = carried.oid and c.relkind = 'p'
    join pg_publication_rel as r on r.prrelid = c.oid
    join pg_publication as p on p.oid = r.prpubid
    join campfire.managed_publications as m on m.name = p.pubname
  loop
    perform campfire.align_partitions(parted.root, altered);
  end loop;

  for managed in
    select m.name, p.oid,
      p.oid = any (whole)
        -- Made now, or renamed to a name that is managed.
        or p.oid = any (publications) and not exists (select from campfire.publication_oids as o where o.publication = p.oid) as is_new
    from campfire.managed_publications as m join pg_publication as p on p.pubname = m.name
    -- Most DDL is about other tables, and should not wait for the verdict.
    where publications <> '{}' or whole <> '{}' or exists (
      select from unnest(relations) as t (oid)
      cross join lateral (select t.oid union select a.relid from pg_partition_ancestors(t.oid) as a) as carried (oid)
      join pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = carried.oid)
  loop
    select jsonb_agg(jsonb_build_object('kind', v.kind, 'root', v.root::oid, 'relation', v.relation::oid,
      'column_name', v.column_name, 'schema_name', v.schema_name, 'problem', v.problem)) into problems
    from campfire.publication_verdict(managed.name) as v
    where managed.is_new or v.root = any (relations) or v.relation = any (relations);
    if problems is not null then
      perform campfire.refuse(managed.name, problems);
    end if;
  end loop;
end
$$;
comment on function campfire.guard_publications() is
  'Internal event trigger. Raises 0A000 if a managed publication would carry a column that is not scalar, all tables or a schema; '
  '55000 if a published table would lose its replica identity, or its column list or row filter go beyond it, or if a mirror''s or a '
  'partition''s would not suffice to route its rows; partitions that are made or attached get that of their table. 55000 in a transaction that is repeatable read or serializable. The hint is SQL that mends it.';

create function campfire.guard_drops() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  lost record;
  table_name text;
  relation regclass;
  suggested text;
  schemas text[];
  managed record;
  problems jsonb;
begin
  if not exists (
      select from pg_event_trigger_dropped_objects() as d
      where d.object_type in ('publication relation', 'index', 'table constraint')) then
    return;
  end if;

  -- A table that left a publication because something in it was dropped, not because anybody said so.
  for lost in
    select d.address_names, m.name as publication, array(
      select k.address_names[3] from pg_event_trigger_dropped_objects() as k
      where k.object_type = 'table column' and k.address_names[1:2] = d.address_names) as columns
    from pg_event_trigger_dropped_objects() as d
    join campfire.managed_publications as m on m.name = d.address_args[1]
    where d.object_type = 'publication relation' and not d.original
      and exists (select from pg_publication as p where p.pubname = m.name)
      and not exists (
        select from pg_event_trigger_dropped_objects() as t
        where t.object_type = 'table' and t.address_names = d.address_names)
  loop
    table_name := format('%I.%I', lost.address_names[1], lost.address_names[2]);
    relation := to_regclass(table_name);
    if relation is null then
      continue;
    end if;
    suggested := case when campfire.replica_identity_columns(relation) is null then campfire.suggested_identity(relation) end;
    perform campfire.refuse_command('55000',
      format('the command would take %s out of publication "%s"', table_name, lost.publication),
      format(e'campfire guards publication "%s".\nDropped with it: %s.', lost.publication, (
        select string_agg(format('column %s.%I', table_name, c), ', ') from unnest(lost.columns) as c)),
      case when suggested is null
        then format('select campfire.publish_without(%L, %L, %L);', lost.publication, table_name, lost.columns::text)
        else campfire.publish_anew(lost.publication, relation, suggested, lost.columns) end);
  end loop;

  -- An index is gone by now, and with it the name of its table; but they share a schema.
  select array_agg(d.schema_name) into schemas
  from pg_event_trigger_dropped_objects() as d where d.object_type in ('index', 'table constraint');
  for managed in
    select m.name from campfire.managed_publications as m join pg_publication as p on p.pubname = m.name
  loop
    select jsonb_agg(jsonb_build_object('kind', v.kind, 'root', v.root::oid, 'relation', v.relation::oid, 'problem', v.problem))
    into problems
    from campfire.publication_verdict(managed.name) as v
    join pg_class as c on c.oid = v.relation join pg_namespace as n on n.oid = c.relnamespace
    where v.kind = 'identity_missing' and (n.nspname = any (schemas) or schemas @> array[null::text]);
    if problems is not null then
      perform campfire.refuse(managed.name, problems);
    end if;
  end loop;
end
$$;
comment on function campfire.guard_drops() is
  'Internal event trigger. Raises 55000 if dropping something would take a table out of a managed publication, or a published '
  'table''s replica identity away. The hint is SQL that mends it.';

create event trigger campfire_remember on ddl_command_start
  when tag in ('CREATE PUBLICATION', 'ALTER PUBLICATION', 'DROP PUBLICATION')
  execute function campfire.remember_publications();
comment on event trigger campfire_remember is
  'campfire: by this the guard can follow renames of publications.';
create event trigger campfire_guard on ddl_command_end
  when tag in ('CREATE PUBLICATION', 'ALTER PUBLICATION', 'CREATE TABLE', 'ALTER TABLE', 'ALTER TYPE')
  execute function campfire.guard_publications();
comment on event trigger campfire_guard is
  'campfire: keeps managed publications scalar and writers unbroken. Switch off: alter event trigger campfire_guard disable; '
  'then on again: alter event trigger campfire_guard enable; and look at campfire.check_publication().';
create event trigger campfire_guard_drop on sql_drop execute function campfire.guard_drops();
comment on event trigger campfire_guard_drop is
  'campfire: keeps published tables and their replica identities from being dropped along. Switch off: '
  'alter event trigger campfire_guard_drop disable; then on again: alter event trigger campfire_guard_drop enable;';

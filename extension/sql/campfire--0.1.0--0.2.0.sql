-- 0.1.0 to 0.2.0. The definitions are those of the files in sql/; what is missing here did not change.
set local search_path = pg_catalog, pg_temp;

create or replace function campfire.change_setting() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if (new.name, new.default_value, new.description) is distinct from (old.name, old.default_value, old.description) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('only the value of setting "%s" can be changed', old.name);
  end if;
  if new.value is null or new.value = new.default_value then
    delete from campfire.setting_overrides where name = new.name;
    new.value := new.default_value;
    return new;
  end if;
  if new.name like 'claim\_%' and new.value !~ '^[^.]+(\.[^.]+)*$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a path to a claim', new.value),
      hint = 'A path is one or more names separated by dots, such as app_metadata.org_id.';
  end if;
  if new.name like '%\_bytes\_max' and new.value !~ '^[1-9][0-9]{0,9}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a number of bytes', new.value),
      hint = 'Write digits alone, such as 65536.';
  end if;
  if new.name like '%\_hours' and new.value !~ '^[1-9][0-9]{0,5}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a number of hours', new.value),
      hint = 'Write digits alone, such as 72.';
  end if;
  insert into campfire.setting_overrides as o (name, value) values (new.name, new.value)
  on conflict (name) do update set value = excluded.value;
  return new;
end
$$;

create or replace function campfire.require_read_committed(changed text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s cannot be altered in a %s transaction', changed, current_setting('transaction_isolation')),
      detail = 'What others have committed since the transaction began could not be seen.',
      hint = 'set transaction isolation level read committed; -- before anything else in the transaction';
  end if;
end
$$;
comment on function campfire.require_read_committed(text) is
  'Internal. Raises 55000 in a transaction whose queries see only what was there when it began.';

comment on function campfire.change_setting() is
  'Internal. Makes campfire.settings writable; raises 22023 for a malformed path or number, or a change of anything but the value.';

create or replace function campfire.claim_from_json(document text, path text) returns text
language c immutable strict parallel safe
as 'campfire-0.2.0', 'claim_from_json_wrapper';

create or replace function campfire.is_agent(agents regclass) returns boolean
language c stable strict parallel restricted security definer set search_path = pg_catalog, pg_temp
as 'campfire-0.2.0', 'is_agent_wrapper';

create or replace function campfire.projection_registry_changed() returns trigger
language c
as 'campfire-0.2.0', 'projection_registry_changed_wrapper';

create or replace function campfire.sync_realtime_conversations() returns trigger
language c security definer set search_path = pg_catalog, pg_temp
as 'campfire-0.2.0', 'sync_realtime_conversations_wrapper';

create or replace function campfire.is_scalar(type regtype) returns boolean
language sql stable strict parallel safe
return type in (
    'uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype,
    'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype,
    'numeric'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
    'timestamptz'::regtype)
  
  or (
    with recursive base (oid, typtype, typbasetype) as (
      select t.oid, t.typtype, t.typbasetype from pg_catalog.pg_type as t where t.oid = type
      union all
      select t.oid, t.typtype, t.typbasetype
      from base join pg_catalog.pg_type as t on t.oid = base.typbasetype
      where base.typtype = 'd'
    )
    select exists (
      select from base
      where base.typtype <> 'd'
        and (base.oid in (
              'uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype,
              'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype,
              'numeric'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
              'timestamptz'::regtype)
          or exists (
              select from pg_catalog.pg_depend as d
              join pg_catalog.pg_extension as e on e.oid = d.refobjid
              join pg_catalog.pg_type as t on t.oid = d.objid
              where d.classid = 'pg_catalog.pg_type'::regclass and d.objid = base.oid
                and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
                and e.extname = 'citext' and t.typname = 'citext'))
    )
  );

create or replace function campfire.builtin_table(relation regclass) returns setof campfire.builtin_tables
language sql stable strict rows 1 set search_path = pg_catalog, pg_temp
begin atomic
  select b.*
  from campfire.builtin_tables as b
  join campfire.installations as i on true
  join pg_catalog.pg_namespace as n on n.nspname = i.schema_name
  join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = b.table_name
  where c.oid = relation;
end;
comment on function campfire.builtin_table(regclass) is
  'Internal. Which of the tables of install() this is; no row for any other table.';

create or replace function campfire.suggested_identity(relation regclass) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  qualified constant text := campfire.qualified_name(relation);
  standard campfire.builtin_tables;
  candidate record;
  added name;
begin
  select b.* into standard from campfire.builtin_table(relation) as b;

  -- What campfire routes by every column must stay full: there a complex column becomes text.
  if not standard.listed or exists (select from campfire.projections as p where p.mirror = relation) then
    return (
      select format('alter table %s %s;', qualified, concat_ws(', ',
        string_agg(format('alter column %1$I type text using %1$I::text', c.column_name), ', '), 'replica identity full'))
      from campfire.publishable_columns(relation) as c where c.reason like 'type %');
  end if;
  if standard.identity_columns is not null then
    added := standard.table_name || '_replica_identity';
    return format('create unique index if not exists %2$I on %1$s (%3$s); alter table %1$s replica identity using index %2$I;',
      qualified, added, (select string_agg(quote_ident(c), ', ') from unnest(standard.identity_columns) as c));
  end if;

  select i.indisprimary, c.relname into candidate
  from pg_index as i join pg_class as c on c.oid = i.indexrelid
  where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate
    and i.indpred is null and i.indexprs is null
    and not exists (
      select from pg_attribute as a
      where a.attrelid = relation and a.attnum = any (i.indkey::int2[])
        and (not a.attnotnull or a.attgenerated <> '' or not campfire.is_scalar(a.atttypid::regtype)))
  order by i.indisprimary desc, cardinality(i.indkey::int2[]), c.relname
  limit 1;
  if found then
    return format('alter table %s replica identity %s;', qualified,
      case when candidate.indisprimary then 'default' else format('using index %I', candidate.relname) end);
  end if;
  if (select bool_and(publishable) from campfire.publishable_columns(relation)) then
    return format('alter table %s replica identity full;', qualified);
  end if;
  added := left((select relname from pg_class where oid = relation), 40) || '_campfire_id';
  return format(
    'alter table %1$s add column campfire_id uuid not null default gen_random_uuid(), add constraint %2$I unique (campfire_id); '
    'alter table %1$s replica identity using index %2$I;', qualified, added);
end
$$;
comment on function campfire.suggested_identity(regclass) is
  'Internal. SQL that gives a table the replica identity it needs, of scalar columns.';

create or replace function campfire.filter_columns(publication name, relation regclass) returns name[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.array_agg(a.attname order by a.attnum)
  from pg_catalog.pg_publication as p
  join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid
  join pg_catalog.pg_attribute as a on a.attrelid = r.prrelid
    -- Not by pg_depend, which does not tell the filter's columns from those of the list.
    and a.attnum in (select m[1]::int2 from pg_catalog.regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') as m)
  where p.pubname = publication and r.prrelid = relation
);
comment on function campfire.filter_columns(name, regclass) is
  'Internal. Columns that the row filter of a table in a publication uses; null if there is no filter.';

create or replace function campfire.publish(publication name, relation regclass, columns name[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  qualified constant text := campfire.qualified_name(relation);
  target pg_publication;
  source pg_class;
  present pg_publication_rel;
  identity_columns name[];
  wanted name[] := columns; -- null: every column, without a list
  offenders name[];
  missing name[];
  complaints text;
  left_out text;
begin
  if publication is null or relation is null then
    raise exception using
      errcode = 'null_value_not_allowed',
      message = 'publish() needs a publication and a table';
  end if;
  select * into target from pg_publication as p where p.pubname = publication;
  if not found then
    raise exception using
      errcode = 'undefined_object',
      message = format('publication "%s" does not exist', publication),
      hint = format('select campfire.create_publication(%L);', publication);
  end if;
  if target.puballtables then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('publication "%s" publishes all tables', publication),
      detail = 'It carries every column of every table, also those that are not scalar.',
      hint = format('drop publication %1$I; select campfire.create_publication(%1$L);', publication);
  end if;
  select * into source from pg_class as c where c.oid = relation;
  if not found then
    raise exception using
      errcode = 'undefined_table',
      message = format('relation with oid %s does not exist', relation::oid);
  end if;
  if source.relkind not in ('r', 'p') or source.relpersistence <> 'p' then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s cannot be published', qualified),
      detail = 'Only tables that are written to the WAL can be.',
      hint = case source.relpersistence when 'u' then format('alter table %s set logged;', qualified)
             else 'Publish the table that holds the rows.' end;
  end if;

  identity_columns := campfire.replica_identity_columns(relation);
  if identity_columns is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has no replica identity', qualified),
      detail = 'Once it is published, its rows could not be updated or deleted.',
      hint = campfire.suggested_identity(relation);
  end if;

  if wanted is null and source.relreplident <> 'f' then
    -- Always a list, so that a complex column added later changes nothing. The identity is in it even where it may
    -- not be: it is then refused below, by name.
    select array_agg(c.column_name) filter (where c.publishable or c.column_name = any (identity_columns)),
           string_agg(format('%I (%s)', c.column_name, c.type_name), ', ') filter (where not c.publishable)
    into wanted, left_out
    from campfire.publishable_columns(relation) as c;
  end if;

  select array_agg(w) into missing
  from unnest(wanted) as w
  where w not in (select c.column_name from campfire.publishable_columns(relation) as c);
  if missing is not null then
    raise exception using
      errcode = 'undefined_column',
      message = format('column %s.%I does not exist', qualified, missing[1]),
      hint = format('select * from campfire.publishable_columns(%L);', qualified);
  end if;

  select array_agg(c.column_name), string_agg(format('%s.%I: %s', qualified, c.column_name, c.reason), e'\n')
  into offenders, complaints
  from campfire.publishable_columns(relation) as c
  where not c.publishable
    -- A table without a list keeps its generated columns to itself.
    and case when wanted is null then c.reason like 'type %' else c.column_name = any (wanted) end;
  if offenders is not null then
    raise exception using
      errcode = 'feature_not_supported',
      message = (
        select format('column %s.%I of type %s cannot be published', qualified, c.column_name, c.type_name)
        from campfire.publishable_columns(relation) as c where c.column_name = offenders[1]),
      detail = complaints,
      hint = case
        when wanted is null or offenders && identity_columns then campfire.suggested_identity(relation)
        else format('select campfire.publish(%L, %L, %L);', publication, qualified, (
          select array_agg(c.column_name) from campfire.publishable_columns(relation) as c
          where c.publishable and c.column_name = any (wanted || identity_columns))::text)
        end;
  end if;

  if wanted is not null and source.relreplident = 'f' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has replica identity full and cannot be published with a column list', qualified),
      detail = 'The application''s next UPDATE would fail: a list must cover the replica identity.',
      hint = case
        when (select bool_and(c.publishable) from campfire.publishable_columns(relation) as c)
          then format('select campfire.publish(%L, %L);', publication, qualified)
        else campfire.suggested_identity(relation) end;
  end if;
  if not wanted @> identity_columns then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the column list of %s does not cover its replica identity', qualified),
      detail = format('The application''s next UPDATE would fail. The replica identity is (%s).',
        array_to_string(identity_columns, ', ')),
      hint = format('select campfire.publish(%L, %L, %L);', publication, qualified, (
        select array_agg(c.column_name) from campfire.publishable_columns(relation) as c
        where c.column_name = any (wanted || identity_columns))::text);
  end if;

  select * into present from pg_publication_rel as r where r.prpubid = target.oid and r.prrelid = relation;
  if found then
    if campfire.column_list(publication, relation) is not distinct from (
        select array_agg(c.column_name) from campfire.publishable_columns(relation) as c where c.column_name = any (wanted)) then
      raise notice '% is already in publication "%"', qualified, publication;
      return;
    end if;
    -- A list cannot be changed in place on Postgres 15, and SET TABLE would drop every other table.
    execute format('alter publication %I drop table %s', publication, qualified);
  end if;
  execute format('alter publication %I add table only %s%s%s', publication, qualified,
    (select ' (' || string_agg(quote_ident(w), ', ') || ')' from unnest(wanted) as w),
    ' where (' || pg_get_expr(present.prqual, present.prrelid) || ')');
  if left_out is not null then
    raise notice '%: left out of publication "%": %', qualified, publication, left_out;
  end if;
end
$$;
comment on function campfire.publish(name, regclass, name[]) is
  'Adds a table to a publication, or changes its column list. Without columns: all that may be published, with a NOTICE for the rest; '
  'a table with replica identity full goes without a list. Raises 0A000 for a column that is not scalar, 55000 if the replica identity '
  'is missing or not in the list, 42704, 42P01, 42703 for what does not exist; the hint is SQL that mends it. '
  'Example: select campfire.publish(''campfire'', ''orders'', ''{id,state,total}'');';

create or replace function campfire.publish_without(publication name, relation regclass, columns name[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  list constant name[] := campfire.column_list(publication, relation);
begin
  if campfire.filter_columns(publication, relation) && columns then
    perform campfire.unpublish(publication, relation);
    raise notice '%: the row filter in publication "%" is gone', campfire.qualified_name(relation), publication;
  end if;
  perform campfire.publish(publication, relation, (select array_agg(c) from unnest(list) as c where c <> all (columns)));
end
$$;
comment on function campfire.publish_without(name, regclass, name[]) is
  'Takes columns out of the list with which a publication carries a table, so that they can be dropped; a row filter that uses them '
  'goes with them, with a NOTICE. Raises what campfire.publish() raises. '
  'Example: select campfire.publish_without(''campfire'', ''orders'', ''{state}'');';

create or replace function campfire.unpublish(publication name, relation regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  if exists (
      select from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
      where p.pubname = publication and r.prrelid = relation) then
    execute format('alter publication %I drop table only %s', publication, campfire.qualified_name(relation));
  else
    raise notice '% is not in publication "%"', campfire.qualified_name(relation), publication;
  end if;
end
$$;
comment on function campfire.unpublish(name, regclass) is
  'Takes a table out of a publication; a NOTICE if it is not in it. Example: select campfire.unpublish(''campfire'', ''orders'');';

create or replace function campfire.create_publication(publication name default 'campfire', tables regclass[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  control constant text := publication::text || '_control';
  made record;
  wanted record;
  listed regclass;
begin
  perform campfire.require_superuser('campfire.create_publication()');
  if publication is null or publication = '' or octet_length(control) > 63 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be the name of a publication', publication),
      hint = 'The name is between 1 and 55 bytes long: its twin is called <name>_control.';
  end if;
  lock table campfire.managed_publications in share row exclusive mode;
  for made in select * from (values (publication, null::name), (control::name, publication)) as v (name, control_of) loop
    if exists (select from pg_publication where pubname = made.name) then
      if not exists (
          select from campfire.managed_publications as m
          where m.name = made.name and m.control_of is not distinct from made.control_of) then
        raise exception using
          errcode = 'duplicate_object',
          message = format('publication "%s" already exists and is not campfire''s', made.name),
          detail = 'campfire leaves publications alone that it did not make.',
          hint = format('Choose another name, or if nobody needs it: drop publication %I; then repeat.', made.name);
      end if;
    else
      execute format('create publication %I with (publish_via_partition_root = true)', made.name);
    end if;
    insert into campfire.managed_publications as m (name, control_of, standard)
    values (made.name, made.control_of, made.control_of is not null or tables is null)
    on conflict (name) do update set standard = m.standard or excluded.standard;

    for wanted in
      select * from campfire.standard_tables(made.name, made.control_of is not null) as t
      where (tables is null or made.control_of is not null) and t.relation is not null and not t.published @> t.columns
    loop
      -- What the DBA added to a list stays in it.
      perform campfire.publish(made.name, wanted.relation,
        case when wanted.listed then wanted.columns || array(
          select c from unnest(wanted.published) as c where c <> all (wanted.columns)) end);
    end loop;
  end loop;

  foreach listed in array coalesce(tables, '{}') loop
    if not exists (
        select from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
        where p.pubname = publication and r.prrelid = listed) then
      perform campfire.publish(publication, listed);
    end if;
  end loop;
end
$$;
comment on function campfire.create_publication(name, regclass[]) is
  'Makes the publication the relay reads, and its twin <name>_control for agents and read receipts; repeated, adds what is missing. '
  'Without tables: the standard ones of every installation. Superuser. Raises 42501, 22023 for a name that is too long, '
  '42710 if a publication of that name is not campfire''s, and what campfire.publish() raises. Example: select campfire.create_publication();';

create or replace function campfire.publication_verdict(publication name)
returns table (kind text, root regclass, relation regclass, column_name name, type_name text, schema_name name, problem text)
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  with target as (
    select p.oid, p.puballtables from pg_catalog.pg_publication as p where p.pubname = publication
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
    pg_catalog.format('column %s.%I is published, but cannot be: %s', t.qualified, k.column_name, k.reason)
  from carried as t cross join lateral campfire.publishable_columns(t.root::regclass) as k
  -- Without a list generated columns stay at home.
  where not k.publishable and case when t.list is null then k.reason like 'type %' else k.column_name = any (t.list) end
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
  select 'filter_uncovered', w.root::regclass, w.relation::regclass, a.attname, null, null,
    pg_catalog.format('the row filter of %s uses column %I, which the replica identity does not cover: its rows cannot be updated or deleted',
      w.leaf_name, a.attname)
  from written as w
  cross join lateral unnest(campfire.filter_columns(publication, w.root::regclass)) as a (attname)
  where a.attname <> all (w.identity_columns)
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
  'break a subscriber (kinds all_tables, schema, column), a writer (identity_missing, identity_uncovered, filter_uncovered), or the '
  'routing of deleted and moved rows (identity_unroutable).';

create or replace function campfire.check_publication(publication name)
returns table (relation regclass, column_name name, type_name text, problem text, fix text)
-- Compiling the queries would take a hundred times as long as running them.
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  rows_name name := publication; -- the publication of rows that this one is, or is the control twin of
  control boolean := false;
  standard boolean := true;
  target pg_publication;
begin
  select coalesce(m.control_of, m.name), m.control_of is not null, m.standard
  into rows_name, control, standard
  from campfire.managed_publications as m where m.name = publication;
  if not found then
    control := publication like '%\_control';
    rows_name := case when control then left(publication, -8) else publication end;
    standard := true;
  end if;

  select * into target from pg_publication as p where p.pubname = publication;
  if not found then
    return query select null::regclass, null::name, null,
      format('publication "%s" does not exist', publication),
      format('select campfire.create_publication(%L);', rows_name);
    return;
  end if;
  if target.puballtables then
    return query select null::regclass, null::name, null,
      format('publication "%s" publishes all tables, so also columns that are not scalar', publication),
      format('drop publication %I; select campfire.create_publication(%L);', publication, rows_name);
    return;
  end if;

  return query
  select null::regclass, null::name, null::text,
    format('publication "%s" publishes all tables of schema "%s", so also columns that are not scalar', publication, n.nspname),
    format('alter publication %I drop tables in schema %I; select campfire.create_publication(%L);', publication, n.nspname, rows_name)
  from pg_publication_namespace as s join pg_namespace as n on n.oid = s.pnnspid
  where s.pnpubid = target.oid
  order by n.nspname;

  if not (target.pubinsert and target.pubupdate and target.pubdelete and target.pubtruncate) then
    return query select null::regclass, null::name, null,
      format('publication "%s" leaves out some operations', publication),
      format('alter publication %I set (publish = ''insert, update, delete, truncate'');', publication);
  end if;

  if standard then
    return query
    select t.relation, null::name, null::text,
      case when t.relation is null then format('table %s does not exist', t.qualified)
           else format('table %s is not in publication "%s"', t.qualified, publication) end,
      case when t.relation is null then 'Restore the table from a backup.'
           else format('select campfire.create_publication(%L);', rows_name) end
    from campfire.standard_tables(publication, control) as t
    where t.relation is null
       or t.published = '{}' and t.columns <@ array(select c.column_name from campfire.publishable_columns(t.relation) as c)
    union all
    select t.relation, c.name, k.type_name,
      case when k.column_name is null then format('column %s.%I does not exist', t.qualified, c.name)
           else format('column %s.%I is not in publication "%s"', t.qualified, c.name, publication) end,
      case when k.column_name is null
             then format('Restore column %s.%I, then: select campfire.create_publication(%L);', t.qualified, c.name, rows_name)
           else format('select campfire.create_publication(%L);', rows_name) end
    from campfire.standard_tables(publication, control) as t
    cross join unnest(t.columns) as c (name)
    left join campfire.publishable_columns(t.relation) as k on k.column_name = c.name
    where t.relation is not null and c.name <> all (t.published)
      -- Of a table that is not carried at all, only what create_publication() will miss.
      and (t.published <> '{}' or k.column_name is null)
    union all
    select t.relation, null, null,
      format('a row filter hides rows of %s from publication "%s"', t.qualified, publication),
      format('alter publication %1$I drop table only %2$s; select campfire.create_publication(%3$L);', publication, t.qualified, rows_name)
    from campfire.standard_tables(publication, control) as t
    join pg_publication_rel as r on r.prpubid = target.oid and r.prrelid = t.relation
    where r.prqual is not null;
  end if;

  return query
  select v.root, v.column_name, v.type_name, v.problem,
    case
      when v.kind = 'column' and (t.is_full or v.column_name = any (t.identity_columns))
        then campfire.suggested_identity(v.root) || format(' select campfire.publish(%L, %L);', publication, t.qualified)
      when v.kind = 'column' then format('select campfire.publish(%L, %L, %L);', publication, t.qualified, (
        select array_agg(k.column_name) from campfire.publishable_columns(v.root) as k
        where k.publishable and (t.list is null or k.column_name = any (t.list || t.identity_columns)))::text)
      when v.kind = 'filter_uncovered' then format('alter publication %1$I drop table only %2$s; select campfire.publish(%1$L, %2$L%3$s);',
        publication, t.qualified, ', ' || quote_literal(t.list::text))
      when v.kind in ('identity_missing', 'identity_unroutable') or v.relation <> v.root then campfire.suggested_identity(v.relation)
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
  'What is wrong with a publication, and SQL that mends it; no rows: nothing. Asks also whether the standard tables and columns are '
  'all there. Example: select * from campfire.check_publication(''campfire'') union all select * from campfire.check_publication(''campfire_control'');';

create table campfire.publication_oids (
  publication oid primary key,
  name name not null unique
);

comment on table campfire.publication_oids is 'Internal. Managed publications by oid, so that the guard can follow a rename; never dumped.';

create or replace function campfire.remember_publications() returns event_trigger
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

create or replace function campfire.publish_anew(publication name, root regclass, identity text, dropped name[] default '{}') returns text
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

comment on function campfire.remember_publications() is
  'Internal event trigger: notes the oids of managed publications before a command on publications.';

create or replace function campfire.guard_fix(
  publication name, kind text, root regclass, relation regclass, column_name name, schema_name name) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  table_name constant text := campfire.qualified_name(root);
  list constant name[] := campfire.column_list(publication, root);
  is_full constant boolean := (select c.relreplident = 'f' from pg_class as c where c.oid = root);
  is_mirror constant boolean := exists (select from campfire.projections as p where p.mirror = root);
  identity_columns constant name[] := campfire.replica_identity_columns(relation);
  suggested constant text := campfire.suggested_identity(relation);
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

create or replace function campfire.refuse(publication name, problems jsonb) returns void
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
  if current_setting('application_name') = 'pg_restore' and (problem ->> 'kind' = 'identity_missing'
      or problem ->> 'kind' = 'identity_unroutable'
        and (select c.relreplident = 'd' from pg_class as c where c.oid = (problem ->> 'root')::oid)) then
    -- A parallel restore may get to the publication before it gets to the key, or to the index that is the identity.
    raise warning using
      errcode = 'object_not_in_prerequisite_state',
      message = problem ->> 'problem', detail = 'Let through because the session is pg_restore''s.', hint = fix;
    return;
  end if;
  raise exception using
    errcode = case when problem ->> 'kind' in ('column', 'all_tables', 'schema')
      then 'feature_not_supported' else 'object_not_in_prerequisite_state' end,
    message = problem ->> 'problem',
    detail = format(e'campfire guards publication "%s".\n%s', publication, complaint),
    hint = fix;
end
$$;
comment on function campfire.refuse(name, jsonb) is
  'Internal. Raises 0A000 or 55000 for what the guard found, with SQL that mends the first problem.';

create or replace function campfire.guard_publications() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  relations oid[];
  publications oid[];
  whole oid[];
  managed record;
  renamed record;
  problems jsonb;
begin
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
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('publication "%s" must be called like the publication it belongs to', renamed.old),
        hint = format('alter publication %I rename to %I;', renamed.control_of, regexp_replace(renamed.new, '_control$', ''));
    elsif renamed.control_of is null and octet_length(renamed.new::text || '_control') > 63 then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('"%s" cannot be the name of a publication', renamed.new),
        hint = 'The name is at most 55 bytes long: its twin is called <name>_control.';
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
  '55000 if a published table would lose its replica identity, or its column list or row filter go beyond it, or if a mirror''s would '
  'not suffice to route its rows; 55000 in a transaction that is repeatable read or serializable. The hint is SQL that mends it.';

create or replace function campfire.guard_drops() returns event_trigger
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
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the command would take %s out of publication "%s"', table_name, lost.publication),
      detail = format(e'campfire guards publication "%s".\nDropped with it: %s.', lost.publication, (
        select string_agg(format('column %s.%I', table_name, c), ', ') from unnest(lost.columns) as c)),
      hint = case when suggested is null
        then format('select campfire.publish_without(%L, %L, %L);', lost.publication, table_name, lost.columns::text)
        else campfire.publish_anew(lost.publication, relation, suggested, lost.columns) end;
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

alter table campfire.projection_registry add column definitions text[];
alter table campfire.projection_registry
  add constraint projection_registry_definitions_fit check (cardinality(definitions) = cardinality(columns));

create table campfire.projection_backfills (
  source regclass primary key,
  after_key jsonb, -- of the last row carried; null before the first
  carried bigint not null default 0
);
comment on table campfire.projection_backfills is
  'Internal. Projections whose mirrors have not got all old rows yet, and how far they are; dumped. campfire.create_projection() goes on there.';
select pg_extension_config_dump('campfire.projection_backfills', 'where source in (select oid from pg_catalog.pg_class)');

create or replace function campfire.projection_columns(source regclass, items text[])
returns table (column_name text, definition text, type regtype, collation_id oid)
language c volatile strict
as 'campfire-0.2.0', 'projection_columns_wrapper';

create or replace function campfire.query_as_owner(source regclass, statement text) returns setof jsonb
language c volatile strict
as 'campfire-0.2.0', 'query_as_owner_wrapper';

create or replace function campfire.start_projection(source regclass, items text[]) returns void
language c volatile
as 'campfire-0.2.0', 'start_projection_wrapper';

create or replace function campfire.backfill_batch(source regclass, batch_rows integer) returns bigint
language c volatile strict
as 'campfire-0.2.0', 'backfill_batch_wrapper';

create or replace function campfire.drop_projection(source regclass, unpublish boolean default false) returns void
language c volatile strict
as 'campfire-0.2.0', 'drop_projection_wrapper';

create or replace function campfire.require_no_transaction(action text) returns void
language c volatile strict
as 'campfire-0.2.0', 'require_no_transaction_wrapper';

comment on function campfire.sync_realtime_conversations() is
  'Trigger: carries each change of a projected table to its scalar mirror, as the owner of that table. '
  'Row trigger for INSERT, UPDATE, DELETE; statement trigger for TRUNCATE. An update that changes no projected value writes nothing. '
  'Raises 55000 on a table that is not in campfire.projections, 42703 if a projected column is gone.';

comment on function campfire.projection_registry_changed() is
  'Internal trigger: makes every session prepare its projection plans again.';


create or replace view campfire.projections as
select p.source, p.mirror, p.key_columns, p.columns, p.created_at,
  coalesce(p.definitions, array(select quote_ident(c) from unnest(p.columns) with ordinality as u (c, n) order by n)) as definitions,
  not exists (select from campfire.projection_backfills as b where b.source = p.source) as complete
from campfire.projection_registry as p
where exists (select from pg_catalog.pg_class as c where c.oid = p.source)
  and exists (select from pg_catalog.pg_class as c where c.oid = p.mirror);
comment on view campfire.projections is 'Projected tables and their scalar mirrors.';
comment on column campfire.projections.source is 'The table that is projected.';
comment on column campfire.projections.mirror is 'The mirror, written by the trigger on the source and by nobody else.';
comment on column campfire.projections.key_columns is 'Columns of the mirror that identify a row: those of the source''s primary key.';
comment on column campfire.projections.columns is 'Columns of the mirror.';
comment on column campfire.projections.created_at is 'When the projection was made.';
comment on column campfire.projections.definitions is 'What each of them is: a column of the source, or an expression over its row; a cast to the mirror''s type is added.';
comment on column campfire.projections.complete is 'Whether the old rows are all in the mirror. If not: call campfire.create_projection() again.';

comment on function campfire.projection_columns(regclass, text[]) is
  'Internal. Reads the items of a projection as the owner of the source. Raises 42501, 0A000 for what is not an expression over one row, '
  '42P17 for one that is not immutable, and what Postgres raises for names that do not exist.';
comment on function campfire.query_as_owner(regclass, text) is
  'Internal. Runs one statement as the owner of a table, for a member of that role; rows are jsonb. Raises 42501 for others.';
comment on function campfire.start_projection(regclass, text[]) is
  'Internal. The step of campfire.create_projection() that makes mirror, registration and triggers.';
comment on function campfire.backfill_batch(regclass, integer) is
  'Internal. The step of campfire.create_projection() that carries old rows to the mirror; returns how many, 0 at the end.';
comment on function campfire.require_no_transaction(text) is
  'Internal. Raises 2D000 inside a transaction block.';

create or replace function campfire.name_around(prefix text, source text, suffix text) returns name
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  room constant integer := 63 - octet_length(prefix) - octet_length(suffix);
  kept text := source;
begin
  if octet_length(source) <= room then
    return prefix || source || suffix;
  end if;
  -- Whole characters, and a hash of all of them: two long names with one beginning stay two.
  while octet_length(kept) > room - 9 loop
    kept := left(kept, -1);
  end loop;
  return prefix || kept || '_' || left(md5(source), 8) || suffix;
end
$$;
comment on function campfire.name_around(text, text, text) is
  'Internal. A name made of another: if it would be longer than 63 bytes, the other is cut after a whole character and eight digits of its md5 follow.';

create or replace function campfire.projected_type(type regtype) returns regtype
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  base regtype := type;
begin
  while (select t.typtype = 'd' from pg_type as t where t.oid = base) loop
    base := (select t.typbasetype from pg_type as t where t.oid = base);
  end loop;
  if campfire.is_scalar(base) then
    return base;
  elsif base in ('inet'::regtype, 'cidr'::regtype, 'macaddr'::regtype, 'macaddr8'::regtype)
    or (select t.typtype = 'e' from pg_type as t where t.oid = base) then
    return 'text'::regtype;
  end if;
  return null;
end
$$;
comment on function campfire.projected_type(regtype) is
  'Type that a value of this type has in a mirror: itself or what its domain is over if that is scalar, text for enums and network '
  'addresses, null for what is not projected. Example: select campfire.projected_type(''inet'');';

create or replace function campfire.default_projection(source regclass) returns text[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select coalesce(pg_catalog.array_agg(a.attname::text order by a.attnum), '{}')
  from pg_catalog.pg_attribute as a
  where a.attrelid = source and a.attnum > 0 and not a.attisdropped and a.attgenerated in ('', 's')
    and campfire.projected_type(a.atttypid::regtype) is not null
);
comment on function campfire.default_projection(regclass) is
  'The columns that campfire.create_projection() takes if none are named. Example: select campfire.default_projection(''conversations'');';

create or replace function campfire.only_of(relation regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  -- Partitions belong to their table; children by inheritance do not, and no trigger of it sees them.
  select case when c.relkind = 'p' then '' else 'only ' end || campfire.qualified_name(relation)
  from pg_catalog.pg_class as c where c.oid = relation
);
comment on function campfire.only_of(regclass) is
  'Internal. A table as FROM names it: with ONLY, unless it is partitioned.';

create or replace function campfire.projection_query(source regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.format('select %s from %s', (
      select pg_catalog.string_agg(pg_catalog.format('(%s)::%s as %I', u.definition, pg_catalog.format_type(a.atttypid, null), u.name), ', ' order by u.n)
      from rows from (pg_catalog.unnest(p.columns), pg_catalog.unnest(p.definitions)) with ordinality as u (name, definition, n)
      join pg_catalog.pg_attribute as a on a.attrelid = p.mirror and a.attname = u.name),
    campfire.only_of(source))
  from campfire.projections as p where p.source = projection_query.source
);
comment on function campfire.projection_query(regclass) is
  'Internal. The query whose rows the mirror should hold; null for a table without projection.';

create or replace function campfire.require_projection(source regclass) returns campfire.projections
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  found campfire.projections;
begin
  select * into found from campfire.projections as p where p.source = source;
  if found.source is null then
    raise exception using
      errcode = 'undefined_object',
      message = format('%s has no projection', coalesce(campfire.qualified_name(source), 'null')),
      hint = format('call campfire.create_projection(%L);', campfire.qualified_name(source));
  end if;
  return found;
end
$$;
comment on function campfire.require_projection(regclass) is 'Internal. The projection of a table; raises 42704 if it has none.';

create or replace function campfire.projection_column_list(columns name[], prefix text) returns text
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.string_agg(prefix || pg_catalog.quote_ident(u.c), ', ' order by u.n)
  from pg_catalog.unnest(columns) with ordinality as u (c, n)
);
comment on function campfire.projection_column_list(name[], text) is 'Internal. Column names, quoted, each behind a prefix.';

create or replace function campfire.attach_projection(
  source regclass, mirror regclass, key_columns name[], columns name[], definitions text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  source_name constant text := (select c.relname from pg_class as c where c.oid = source);
  row_trigger constant name := campfire.name_around('sync_realtime_', source_name, '_trigger');
begin
  -- Of tables that were dropped.
  delete from campfire.projection_registry as p where not exists (select from pg_class as c where c.oid = p.source);
  insert into campfire.projection_registry (source, mirror, key_columns, columns, definitions)
  values (source, mirror, key_columns, columns, definitions);
  execute format('create trigger %I after insert or update or delete on %s for each row execute function campfire.sync_realtime_conversations()',
    row_trigger, campfire.qualified_name(source));
  execute format('comment on trigger %I on %s is %L', row_trigger, campfire.qualified_name(source),
    format('campfire: carries the row to %s.', (select c.relname from pg_class as c where c.oid = mirror)));
  perform campfire.attach_truncate_triggers(source);
end
$$;
comment on function campfire.attach_projection(regclass, regclass, name[], name[], text[]) is
  'Internal. Registers a projection and hangs its triggers on the source; used by campfire.install() as well.';

create or replace function campfire.attach_truncate_triggers(source regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  trigger_name constant name := campfire.name_around(
    'sync_realtime_', (select c.relname from pg_class as c where c.oid = source), '_truncate_trigger');
  relation regclass;
begin
  -- Postgres copies row triggers to partitions, also to those that come later; statement triggers it does not.
  for relation in
    select source union select t.relid from pg_partition_tree(source) as t
    except
    select t.tgrelid::regclass from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgtype & 33 = 32
  loop
    execute format('create trigger %I after truncate on %s for each statement execute function campfire.sync_realtime_conversations()',
      trigger_name, campfire.qualified_name(relation));
    execute format('comment on trigger %I on %s is %L', trigger_name, campfire.qualified_name(relation),
      'campfire: empties the mirror; row triggers do not see TRUNCATE.');
  end loop;
end
$$;
comment on function campfire.attach_truncate_triggers(regclass) is
  'Internal. Hangs the trigger for TRUNCATE on a projected table and on those of its partitions that have none yet.';

create or replace function campfire.require_projectable(source regclass) returns void
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  class constant pg_class := (select c from pg_class as c where c.oid = source);
  key pg_index;
begin
  if class.relkind not in ('r', 'p') or class.relpersistence <> 'p' then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s cannot be projected', qualified),
      detail = 'Only tables that are written to the WAL can be.',
      hint = case when class.relpersistence = 'u' then format('alter table %s set logged;', qualified)
        else 'Project the table that holds the rows.' end;
  elsif class.relnamespace in ('campfire'::regnamespace, 'pg_catalog'::regnamespace) then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s cannot be projected', qualified),
      detail = 'It belongs to the system.';
  elsif class.relispartition then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s is a partition', qualified),
      hint = format('call campfire.create_projection(%L);', (select campfire.qualified_name(pg_partition_root(source))));
  elsif exists (select from campfire.projections as p where p.mirror = source) then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('%s is a mirror itself', qualified),
      hint = format('It is scalar already: select campfire.publish(''campfire'', %L);', qualified);
  end if;
  select i.* into key from pg_index as i where i.indrelid = source and i.indisprimary;
  if not found then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has no primary key', qualified),
      detail = 'By its primary key a row is found in the mirror.',
      hint = format('alter table %s add primary key (...); with the columns that identify a row.', qualified);
  elsif not key.indimmediate then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('the primary key of %s is deferrable', qualified),
      detail = 'Two rows may have one key for a while, but there is one row of that key in the mirror.',
      hint = (select format('alter table %1$s drop constraint %2$I, add constraint %2$I %3$s;', qualified, k.conname,
          regexp_replace(pg_get_constraintdef(k.oid), ' DEFERRABLE.*$', ''))
        from pg_constraint as k where k.conindid = key.indexrelid and k.contype = 'p');
  end if;
end
$$;
comment on function campfire.require_projectable(regclass) is
  'Internal. Raises 0A000 or 55000 for a table that cannot have a projection.';

create or replace function campfire.make_projection(source regclass, items jsonb, by_default boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(source);
  class constant pg_class := (select c from pg_class as c where c.oid = source);
  schema_name constant name := (select n.nspname from pg_namespace as n where n.oid = class.relnamespace);
  mirror_name constant name := campfire.name_around('realtime_', class.relname::text, '');
  mirror constant text := format('%I.%I', schema_name, mirror_name);
  keys name[];
  key_names name[] := '{}';
  item record;
  key name;
  key_name name;
  projected regtype;
  body text[] := '{}';
  names name[] := '{}';
  definitions text[] := '{}';
  left_out text;
  grantee text;
begin
  perform campfire.require_projectable(source);
  if exists (select from campfire.projections as p where p.source = source) then
    raise exception using
      errcode = 'duplicate_object',
      message = format('%s has a projection already', qualified),
      hint = format('To project other columns: select campfire.drop_projection(%L); then create it again.', qualified);
  elsif to_regclass(mirror) is not null then
    raise exception using
      errcode = 'duplicate_table',
      message = format('%s already exists and is not campfire''s', mirror),
      hint = format('The mirror needs that name: alter table %s rename to ...;', mirror);
  end if;

  select array_agg(a.attname order by k.n) into keys
  from pg_index as i
  cross join unnest(i.indkey::int2[]) with ordinality as k (number, n)
  join pg_attribute as a on a.attrelid = source and a.attnum = k.number
  where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts;

  for item in
    select c.* from jsonb_array_elements(items) with ordinality as e (item, n)
    cross join lateral jsonb_to_record(e.item) as c (column_name name, definition text, type oid, collation_id oid)
    order by e.n
  loop
    projected := campfire.projected_type(item.type::regtype);
    if projected is null then
      raise exception using
        errcode = 'feature_not_supported',
        message = format('%s.%I of type %s cannot be projected', qualified, item.column_name, format_type(item.type, null)),
        hint = format('Project a scalar that is made of it: an item such as (%s)::text as %I, if its cast to text is immutable, or what you need of it, such as customer->>''plan'' as plan.',
          item.definition, item.column_name);
    elsif item.column_name = any (names) then
      raise exception using
        errcode = 'duplicate_column',
        message = format('column "%s" is projected twice', item.column_name),
        hint = 'Give one of them another name: an item such as customer->>''plan'' as plan.';
    elsif exists (
        select from pg_attribute as a
        where a.attrelid = source and a.attgenerated not in ('', 's') and quote_ident(a.attname) = item.definition) then
      raise exception using
        errcode = 'feature_not_supported',
        message = format('%s.%I is a virtual generated column and cannot be projected', qualified, item.column_name),
        hint = 'Project the expression it is generated by.';
    end if;
    names := names || item.column_name;
    definitions := definitions || item.definition;
    body := body || format('%I %s%s%s', item.column_name, format_type(projected, null),
      (select format(' collate %I.%I', n.nspname, k.collname)
       from pg_collation as k join pg_namespace as n on n.oid = k.collnamespace
       where k.oid = item.collation_id and k.collname <> 'default'
         and (select t.typcollation <> 0 from pg_type as t where t.oid = projected)),
      case when item.definition = any (select quote_ident(c) from unnest(keys) as c) then ' not null' end);
  end loop;
  foreach key in array keys loop
    key_name := (select u.name from rows from (unnest(names), unnest(definitions)) as u (name, definition)
      where u.definition = quote_ident(key) limit 1);
    if key_name is null then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('%s.%I is part of the primary key and must be projected', qualified, key),
        detail = coalesce((
          select format('Its type %s is not scalar.', format_type(a.atttypid, a.atttypmod)) from pg_attribute as a
          where a.attrelid = source and a.attname = key and campfire.projected_type(a.atttypid::regtype) is null),
          'By its primary key a row is found in the mirror.'),
        hint = format('Add %s to the columns, or give the table a primary key of scalar columns.', quote_ident(key));
    end if;
    key_names := key_names || key_name;
  end loop;
  if cardinality(names) > 1600 - 1 then
    raise exception using errcode = 'too_many_columns', message = 'a mirror has at most 1599 columns';
  end if;

  execute format('create table %s (%s, primary key (%s))', mirror, array_to_string(body, ', '),
    campfire.projection_column_list(key_names, ''));
  execute format('alter table %s replica identity full', mirror);
  execute format('alter table %s enable row level security', mirror);
  execute format('comment on table %s is %L', mirror,
    format('campfire: scalar mirror of %I, written by a trigger and published without a column list. Never write to it.', class.relname));
  -- Default privileges may have opened it.
  for grantee in
    select distinct case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
    from pg_class as c cross join lateral aclexplode(c.relacl) as a
    where c.oid = mirror::regclass and a.grantee <> c.relowner
  loop
    execute format('revoke all on table %s from %s', mirror, grantee);
  end loop;
  execute format('alter table %s owner to %I', mirror, pg_get_userbyid(class.relowner));
  perform campfire.attach_projection(source, mirror::regclass, key_names, names, definitions);
  insert into campfire.projection_backfills as b (source) values (source)
  on conflict on constraint projection_backfills_pkey do update set after_key = null, carried = 0;

  if by_default then
    select string_agg(format('%I (%s)', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum) into left_out
    from pg_attribute as a
    where a.attrelid = source and a.attnum > 0 and not a.attisdropped and a.attname::text <> all (campfire.default_projection(source));
    if left_out is not null then
      raise notice '%: left out of the projection: %', qualified, left_out;
    end if;
  end if;
end
$$;
comment on function campfire.make_projection(regclass, jsonb, boolean) is
  'Internal. Makes the mirror of a table, closed to everybody but the owner of the source, and attaches it. Called with the items '
  'that campfire.projection_columns() read as that owner.';

create or replace function campfire.backfill_statement(source regclass, batch_rows integer) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection constant campfire.projections := campfire.require_projection(source);
  progress campfire.projection_backfills;
  source_name constant name := (select c.relname from pg_class as c where c.oid = source);
  keys text; -- of the source: ORDER BY would take a bare name for the mirror's
  named_keys text;
  last_key text;
begin
  -- Two that fill one mirror go one after the other.
  select * into progress from campfire.projection_backfills as b where b.source = source for update;
  if not found then
    return null;
  end if;
  select string_agg(format('%I.%s', source_name, u.definition), ', ' order by k.n),
    string_agg(format('%I.%s as %I', source_name, u.definition, k.name), ', ' order by k.n),
    string_agg(format('(%L::jsonb ->> %L)::%s', progress.after_key, k.name, format_type(a.atttypid, a.atttypmod)), ', ' order by k.n)
  into keys, named_keys, last_key
  from unnest(projection.key_columns) with ordinality as k (name, n)
  join rows from (unnest(projection.columns), unnest(projection.definitions)) as u (name, definition) on u.name = k.name
  join pg_attribute as a on a.attrelid = source and quote_ident(a.attname) = u.definition;
  -- First the keys as the snapshot has them, so that a row that moves meanwhile moves no boundary. Then their rows,
  -- locked, so that none is deleted or gets another key between its being read and its being in the mirror. What the
  -- trigger brought is newer and stays.
  return to_jsonb(format(
    'with keys as materialized (select %1$s from %2$s%3$s order by %4$s limit %5$s), '
    'batch as materialized (%6$s where (%4$s) in (select * from keys) for key share of %7$I), '
    'carried as (insert into %8$s (%9$s) select %9$s from batch on conflict (%10$s) do nothing) '
    'select jsonb_build_object(''rows'', (select count(*) from keys), ''after'', '
    '(select to_jsonb(l) from (select * from keys offset (select greatest(count(*) - 1, 0) from keys)) as l))',
    named_keys, campfire.only_of(source), case when progress.after_key is not null then format(' where (%s) > (%s)', keys, last_key) end,
    keys, greatest(batch_rows, 1), campfire.projection_query(source), source_name, campfire.qualified_name(projection.mirror),
    campfire.projection_column_list(projection.columns, ''), campfire.projection_column_list(projection.key_columns, '')));
end
$$;
comment on function campfire.backfill_statement(regclass, integer) is
  'Internal. The statement that carries the next rows to a mirror, for the owner of the source to run; null if all are there.';

create or replace function campfire.note_backfill(source regclass, carried jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
begin
  if (carried ->> 'rows')::bigint = 0 then
    delete from campfire.projection_backfills as b where b.source = source;
  else
    update campfire.projection_backfills as b
    set after_key = carried -> 'after', carried = b.carried + (carried ->> 'rows')::bigint
    where b.source = source;
  end if;
end
$$;
comment on function campfire.note_backfill(regclass, jsonb) is 'Internal. Notes how far the old rows are carried.';

create or replace procedure campfire.create_projection(source regclass, columns text[] default null, batch_rows integer default 1000)
language plpgsql as $$
declare
  moved bigint;
  carried bigint := 0;
  mirror pg_catalog.text;
begin
  perform campfire.require_no_transaction('campfire.create_projection()');
  commit;
  if exists (select from campfire.projections as p where p.source operator(pg_catalog.=) create_projection.source and not p.complete)
    and columns is null then
    raise notice '% is projected already; carrying on with the old rows', campfire.qualified_name(source);
  else
    perform campfire.start_projection(source, columns);
  end if;
  commit;
  loop
    set transaction isolation level read committed;
    moved := campfire.backfill_batch(source, batch_rows);
    commit;
    exit when moved operator(pg_catalog.=) 0;
    carried := carried operator(pg_catalog.+) moved;
    if carried operator(pg_catalog.%) 100000 operator(pg_catalog.<) moved then
      raise notice '%: % rows carried', campfire.qualified_name(source), carried;
    end if;
  end loop;
  select campfire.qualified_name(p.mirror) into mirror
  from campfire.projections as p where p.source operator(pg_catalog.=) create_projection.source;
  raise notice '% is projected to %, % rows; next: select campfire.publish(''campfire'', %);',
    campfire.qualified_name(source), mirror, carried, pg_catalog.quote_literal(mirror);
end
$$;
comment on procedure campfire.create_projection(regclass, text[], integer) is
  'Makes realtime_<source> beside a table and keeps it up to date: first mirror and triggers, then the old rows in committed batches, '
  'so that nobody waits. Items are columns, or expressions as in a select list; without them, all that can be projected, and a NOTICE '
  'names the rest. Called again after a crash it goes on. For the owner of the table. Raises 2D000 inside a transaction block, 42501, '
  '0A000 and 55000 for tables, columns and keys that cannot be projected, 42P17 for an expression that is not immutable, 42710, 42P07. '
  'Example: call campfire.create_projection(''orders'', array[''id'', ''state'', ''customer->>''''plan'''' as plan'']);';

create or replace function campfire.difference_query(source regclass) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  projection constant campfire.projections := campfire.require_projection(source);
  first_key constant text := quote_ident(projection.key_columns[1]);
begin
  -- As they are stored (*<>), which is finer than equal: 1.0 and 1.00 look different to a reader.
  return format(
    'select jsonb_build_object(''key'', jsonb_build_object(%1$s), ''kind'', case when m.%2$s is null then ''missing'' '
    'when s.%2$s is null then ''surplus'' else ''different'' end) '
    'from (%3$s) as s full join (select %4$s from %5$s) as m on %6$s '
    'where m.%2$s is null or s.%2$s is null or s *<> m',
    (select string_agg(format('%1$L, coalesce(s.%1$I, m.%1$I)', k), ', ') from unnest(projection.key_columns) as k),
    first_key, campfire.projection_query(source), campfire.projection_column_list(projection.columns, ''),
    campfire.only_of(projection.mirror),
    (select string_agg(format('s.%1$I = m.%1$I', k), ' and ') from unnest(projection.key_columns) as k));
end
$$;
comment on function campfire.difference_query(regclass) is
  'Internal. The query that compares a table with its mirror; raises 42704 for a table without projection.';

create or replace function campfire.verify_projection(source regclass) returns table (key jsonb, kind text)
language sql volatile strict set search_path = pg_catalog, pg_temp
begin atomic
  select d -> 'key', d ->> 'kind'
  from campfire.query_as_owner(source, campfire.difference_query(source)) as d
  order by d -> 'key';
end;
comment on function campfire.verify_projection(regclass) is
  'Rows in which a mirror differs from its table: missing, surplus or different. One snapshot sees both, so it can run at any time and '
  'blocks nobody. For the owner of the table. Raises 42501, 42704 for a table without projection. '
  'Example: select * from campfire.verify_projection(''orders'');';

create or replace function campfire.repair_keys(source regclass, keys jsonb) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  projection constant campfire.projections := campfire.require_projection(source);
  query constant text := campfire.projection_query(source);
  names constant text := campfire.projection_column_list(projection.columns, '');
  key_names constant text := campfire.projection_column_list(projection.key_columns, '');
  wanted constant text := (
    select format('(select %s from jsonb_to_recordset(%L::jsonb) as k (%s))', key_names, keys,
      string_agg(format('%I %s', a.attname, format_type(a.atttypid, null)), ', '))
    from pg_attribute as a where a.attrelid = projection.mirror and a.attname = any (projection.key_columns));
  source_keys constant text := (
    select string_agg(format('(%s)::%s', u.definition, format_type(a.atttypid, null)), ', ' order by k.n)
    from unnest(projection.key_columns) with ordinality as k (name, n)
    join rows from (unnest(projection.columns), unnest(projection.definitions)) as u (name, definition) on u.name = k.name
    join pg_attribute as a on a.attrelid = projection.mirror and a.attname = k.name);
  changes constant text := (
    select string_agg(format('%1$I = excluded.%1$I', c), ', ') from unnest(projection.columns) as c
    where c <> all (projection.key_columns));
  same_key constant text := (select string_agg(format('m.%1$I = s.%1$I', k), ' and ') from unnest(projection.key_columns) as k);
  mended bigint;
begin
  -- As every writer: first the row of the source, then the row of the mirror. From here on neither can change, and each
  -- statement that follows sees what was committed until now.
  perform campfire.query_as_owner(source, format('with locked as (select from %s where (%s) in %s for share) select to_jsonb(count(*)) from locked',
    campfire.only_of(source), source_keys, wanted));
  perform campfire.query_as_owner(source, format('with locked as (select from %s where (%s) in %s for update) select to_jsonb(count(*)) from locked',
    campfire.only_of(projection.mirror), key_names, wanted));
  select d::bigint into mended from campfire.query_as_owner(source, format(
    'with mended as (insert into %1$s (%2$s) select %2$s from (%3$s where (%9$s) in %5$s) as s '
    'where not exists (select from (select %2$s from %6$s) as m where %7$s and m *= s) '
    'on conflict (%4$s) do %8$s returning 1) select to_jsonb(count(*)) from mended',
    campfire.qualified_name(projection.mirror), names, query, key_names, wanted, campfire.only_of(projection.mirror), same_key,
    coalesce('update set ' || changes, 'nothing'), source_keys)) as d;
  return mended + (select d::bigint from campfire.query_as_owner(source, format(
    'with mended as (delete from %1$s as m where (%2$s) in %3$s and not exists (select from (%4$s) as s where %5$s) returning 1) '
    'select to_jsonb(count(*)) from mended',
    campfire.only_of(projection.mirror), campfire.projection_column_list(projection.key_columns, 'm.'), wanted, query, same_key)) as d);
end
$$;
comment on function campfire.repair_keys(regclass, jsonb) is
  'Internal. Makes the mirror hold of these keys what the table holds, and returns how many rows that took.';

create or replace procedure campfire.repair_projection(source regclass, inout repaired bigint default 0, batch_rows integer default 1000)
language plpgsql as $$
declare
  keys pg_catalog.jsonb;
  batch pg_catalog.jsonb;
  done integer := 0;
begin
  perform campfire.require_no_transaction('campfire.repair_projection()');
  commit;
  set transaction isolation level read committed;
  repaired := 0;
  keys := (select pg_catalog.jsonb_agg(v.key) from campfire.verify_projection(source) as v);
  commit;
  while done operator(pg_catalog.<) coalesce(pg_catalog.jsonb_array_length(keys), 0) loop
    batch := pg_catalog.jsonb_path_query_array(keys, '$[$from to $to]', pg_catalog.jsonb_build_object(
      'from', done, 'to', done operator(pg_catalog.+) greatest(batch_rows, 1) operator(pg_catalog.-) 1));
    set transaction isolation level read committed;
    repaired := repaired operator(pg_catalog.+) campfire.repair_keys(source, batch);
    commit;
    done := done operator(pg_catalog.+) greatest(batch_rows, 1);
  end loop;
end
$$;
comment on procedure campfire.repair_projection(regclass, bigint, integer) is
  'Mends the rows that campfire.verify_projection() finds, and no others, in committed batches under the locks of a writer; returns how '
  'many. Each is an event of the mirror. For the owner of the table. Raises 2D000 inside a transaction block, 42501, 42704. '
  'Example: call campfire.repair_projection(''orders'');';

create or replace function campfire.unmake_projection(source regclass, unpublish boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection campfire.projection_registry;
  qualified constant text := campfire.qualified_name(source);
  mirror text;
  publications text;
  routes text;
  made record;
begin
  select * into projection from campfire.projection_registry as p where p.source = source;
  if not found then
    perform campfire.require_projection(source);
  end if;
  mirror := campfire.qualified_name(projection.mirror);
  if exists (
      select from campfire.installations as i join pg_class as c on c.relname = 'realtime_conversations'
      join pg_namespace as n on n.oid = c.relnamespace and n.nspname = i.schema_name
      where c.oid = projection.mirror) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the projection of %s is part of campfire.install()', qualified);
  end if;
  select string_agg(quote_ident(p.pubname), ', ' order by p.pubname) into publications
  from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid where r.prrelid = projection.mirror;
  select string_agg(r.id::text, ', ' order by r.id) into routes from campfire.user_routes as r where r.relation = projection.mirror;
  if (publications is not null or routes is not null) and not unpublish then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s is in use', mirror),
      detail = concat_ws(' ', 'Publications: ' || publications || '.', 'Routes: ' || routes || '.'),
      hint = format('select campfire.drop_projection(%L, unpublish => true);', qualified);
  end if;

  delete from campfire.user_routes as r where r.relation = projection.mirror;
  for made in
    select p.pubname from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid where r.prrelid = projection.mirror
  loop
    execute format('alter publication %I drop table only %s', made.pubname, mirror);
  end loop;
  for made in
    select t.tgname, campfire.qualified_name(t.tgrelid) as relation
    from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgparentid = 0
      and (t.tgrelid = source or t.tgrelid in (select relid from pg_partition_tree(source)))
  loop
    execute format('drop trigger %I on %s', made.tgname, made.relation);
  end loop;
  delete from campfire.projection_backfills as b where b.source = source;
  delete from campfire.projection_registry as p where p.source = source;
  if mirror is not null then
    execute format('drop table %s', mirror);
  end if;
end
$$;
comment on function campfire.unmake_projection(regclass, boolean) is
  'Internal. What campfire.drop_projection() does, as the owner of the extension.';

comment on function campfire.drop_projection(regclass, boolean) is
  'Drops a mirror and the triggers that keep it; the table stays as it is. A mirror that is published or routed is only dropped with '
  'unpublish => true, which takes both away. For the owner of the table. Raises 42501, 42704 for a table without projection, 55000 for a '
  'mirror in use, or the one of campfire.install(). Example: select campfire.drop_projection(''orders'');';

create or replace function campfire.projection_problem(source regclass, out problem text, out fix text)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  projection campfire.projection_registry;
  qualified constant text := campfire.qualified_name(source);
  mirror text;
  definitions text[];
  part record;
begin
  select * into projection from campfire.projection_registry as p where p.source = source;
  mirror := campfire.qualified_name(projection.mirror);
  fix := format('select campfire.drop_projection(%L, unpublish => true);', qualified);
  if mirror is null then
    problem := format('the mirror of %s would be gone', qualified);
    return;
  end if;
  if (select c.relispartition from pg_class as c where c.oid = source) then
    problem := format('%s has a projection of its own and cannot be a partition', qualified);
    return;
  end if;
  definitions := coalesce(projection.definitions,
    array(select quote_ident(c) from unnest(projection.columns) with ordinality as u (c, n) order by n));

  select u.name into part from unnest(projection.columns) as u (name)
  where not exists (select from pg_attribute as a where a.attrelid = projection.mirror and a.attname = u.name and not a.attisdropped);
  if found then
    problem := format('the mirror of %s needs column %s.%I', qualified, mirror, part.name);
    return;
  end if;
  if not exists (
      select from pg_index as i
      where i.indrelid = projection.mirror and i.indisunique and i.indisvalid and i.indimmediate
        and i.indpred is null and i.indexprs is null and i.indnkeyatts = cardinality(projection.key_columns)
        and array(select a.attname from pg_attribute as a where a.attrelid = projection.mirror and a.attnum = any (i.indkey::int2[]))
          @> projection.key_columns) then
    problem := format('the mirror of %s needs a unique key', qualified);
    return;
  end if;
  if not exists (
      select from pg_index as i
      where i.indrelid = source and i.indisprimary and i.indimmediate and i.indnkeyatts = cardinality(projection.key_columns)
        and array(
          select quote_ident(a.attname) from pg_attribute as a where a.attrelid = source and a.attnum = any (i.indkey::int2[]))
          @> array(
          select u.definition from rows from (unnest(projection.columns), unnest(definitions)) as u (name, definition)
          where u.name = any (projection.key_columns))) then
    problem := format('the projection of %s needs its primary key', qualified);
    return;
  end if;

  begin
    for part in
      select a.attname, a.attnotnull, a.atttypid as mirror_type, a.atttypmod, c.type as source_type, c.definition,
        not exists (
          select from pg_attribute as s
          where s.attrelid = source and s.attnotnull and quote_ident(s.attname) = c.definition) as can_be_null
      from rows from (unnest(projection.columns), unnest(definitions)) as u (name, definition)
      join pg_attribute as a on a.attrelid = projection.mirror and a.attname = u.name
      cross join lateral campfire.projection_columns(source, array[u.definition]) as c
    loop
      if part.mirror_type <> campfire.projected_type(part.source_type)
        and part.mirror_type not in ('text'::regtype, 'varchar'::regtype)
        and not exists (
          select from pg_cast as k
          where k.castsource = campfire.projected_type(part.source_type) and k.casttarget = part.mirror_type and k.castcontext = 'i')
        or campfire.projected_type(part.source_type) is null and part.mirror_type not in ('text'::regtype, 'varchar'::regtype)
      then
        problem := format('%s.%I of type %s cannot hold %s of type %s', mirror, part.attname,
          format_type(part.mirror_type, null), part.definition, format_type(part.source_type, null));
        if campfire.projected_type(part.source_type) is not null then
          fix := format('alter table %1$s alter column %2$I type %3$s using %2$I::%3$s;', mirror, part.attname,
            format_type(campfire.projected_type(part.source_type), null));
        end if;
        return;
      elsif part.attnotnull and part.can_be_null and part.attname <> all (projection.key_columns) then
        problem := format('%s.%I is not null, and %s may be', mirror, part.attname, part.definition);
        fix := format('alter table %s alter column %I drop not null;', mirror, part.attname);
        return;
      end if;
    end loop;
  exception when others then
    problem := format('the projection of %s would no longer work: %s', qualified, sqlerrm);
  end;
end
$$;
comment on function campfire.projection_problem(regclass) is
  'Internal. What would break writes to a projected table, and SQL that lets the change pass; null if nothing.';

create or replace function campfire.refuse_projection_problems(sources oid[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  found record;
begin
  -- A parallel restore may make the triggers before the keys.
  if current_setting('application_name') = 'pg_restore' then
    return;
  end if;
  select r.* into found
  from campfire.projection_registry as p
  cross join lateral campfire.projection_problem(p.source) as r
  where p.source = any (sources) and r.problem is not null
    -- No write can fail by a trigger that is not there, as in a restore, or switched off, as where the library is gone.
    and exists (
      select from pg_trigger as t
      where t.tgrelid = p.source and t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgenabled <> 'D')
  limit 1;
  if found.problem is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = found.problem,
      detail = 'Writes to the table would fail, or its mirror be wrong.',
      hint = found.fix;
  end if;
end
$$;
comment on function campfire.refuse_projection_problems(oid[]) is 'Internal. Raises 55000 if one of these projections would no longer work.';

create or replace function campfire.guard_projections() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  touched oid[];
  renamed record;
  source regclass;
  stale record;
begin
  if not exists (select from campfire.projection_registry) then
    return;
  end if;
  if tg_tag not in ('ALTER TABLE', 'CREATE TABLE') then
    -- Something that an expression may name.
    perform campfire.refuse_projection_problems(array(
      select p.source from campfire.projection_registry as p
      where exists (
        select from unnest(p.definitions) as d
        where not exists (select from pg_attribute as a where a.attrelid = p.source and quote_ident(a.attname) = d))));
    return;
  end if;
  select coalesce(array_agg(c.objid), '{}') into touched
  from pg_event_trigger_ddl_commands() as c where c.classid = 'pg_class'::regclass and not c.in_extension;
  -- With what they are partitions of, and their partitions.
  touched := touched
    || array(select a.relid from unnest(touched) as t (oid) cross join lateral pg_partition_ancestors(t.oid) as a)
    || array(select a.relid from unnest(touched) as t (oid) cross join lateral pg_partition_tree(t.oid) as a);
  if not exists (select from campfire.projection_registry as p where p.source = any (touched) or p.mirror = any (touched))
    and not exists (
      select from pg_trigger as t
      where t.tgrelid = any (touched) and t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure) then
    return;
  end if;

  -- One column was renamed: its new name is told, and the old one is the one that is missing.
  for renamed in
    select p.source, p.mirror, c.objid = p.mirror::oid as of_mirror, a.attname as new
    from pg_event_trigger_ddl_commands() as c
    join campfire.projection_registry as p on c.objid in (p.source::oid, p.mirror::oid)
    join pg_attribute as a on a.attrelid = c.objid and a.attnum = c.objsubid
    where c.classid = 'pg_class'::regclass and c.object_type = 'table column'
  loop
    if renamed.of_mirror then
      update campfire.projection_registry as p
      set definitions = coalesce(p.definitions, array(select quote_ident(u.c) from unnest(p.columns) with ordinality as u (c, n) order by n)),
        columns = array_replace(p.columns, gone.name, renamed.new),
        key_columns = array_replace(p.key_columns, gone.name, renamed.new)
      from (
        select u.name from campfire.projection_registry as r cross join unnest(r.columns) as u (name)
        where r.source = renamed.source and not exists (
          select from pg_attribute as a where a.attrelid = r.mirror and a.attname = u.name and not a.attisdropped)) as gone
      where p.source = renamed.source;
    else
      update campfire.projection_registry as p
      set definitions = array(
        select case
          when exists (
            select from pg_attribute as a
            where a.attrelid = renamed.source and quote_ident(a.attname) = d.definition and not a.attisdropped)
            -- An expression is Postgres's to read, and fails below if it named the column.
            or d.definition !~ '^("([^"]|"")+"|[^\s"()''.:0-9][^\s"()''.:]*)$' or d.definition in ('true', 'false') then d.definition
          else quote_ident(renamed.new) end
        from unnest(coalesce(p.definitions, array(select quote_ident(u.c) from unnest(p.columns) with ordinality as u (c, n) order by n)))
          with ordinality as d (definition, n) order by d.n)
      where p.source = renamed.source;
    end if;
  end loop;

  perform campfire.refuse_projection_problems(array(
    select p.source from campfire.projection_registry as p where p.source = any (touched) or p.mirror = any (touched)));
  for source in
    select p.source from campfire.projection_registry as p join pg_class as c on c.oid = p.source
    where p.source = any (touched) and c.relkind = 'p'
  loop
    perform campfire.attach_truncate_triggers(source);
  end loop;
  -- A partition that was detached keeps its rows to itself. Its row trigger went with Postgres.
  for stale in
    select t.tgname, campfire.qualified_name(t.tgrelid) as relation
    from pg_trigger as t
    where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure
      and t.tgparentid = 0 and t.tgtype & 33 = 32 and t.tgname like 'sync\_realtime\_%\_truncate\_trigger'
      and not exists (
        select from campfire.projection_registry as p
        where p.source = t.tgrelid or p.source in (select relid from pg_partition_ancestors(t.tgrelid)))
  loop
    execute format('drop trigger %I on %s', stale.tgname, stale.relation);
  end loop;
end
$$;
comment on function campfire.guard_projections() is
  'Internal event trigger. Follows renames of projected columns and new partitions; raises 55000 if a command would make writes to a '
  'projected table fail. The hint is SQL that lets it pass.';

create or replace function campfire.guard_projection_drops() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  if not exists (select from campfire.projection_registry) then
    return;
  end if;
  -- Dropped sources take their registrations along; their mirrors stay, as tables that nothing writes.
  delete from campfire.projection_backfills as b where not exists (select from pg_class as c where c.oid = b.source);
  delete from campfire.projection_registry as p where not exists (select from pg_class as c where c.oid = p.source);
  perform campfire.refuse_projection_problems(array(
    select p.source
    from campfire.projection_registry as p
    left join pg_class as m on m.oid = p.mirror
    join pg_class as s on s.oid = p.source
    where exists (
      select from pg_event_trigger_dropped_objects() as d
      where case
        when d.object_type = 'table' then d.objid = p.mirror
        when d.object_type in ('table column', 'table constraint')
          then to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) in (p.source, p.mirror)
        when d.object_type = 'index' then to_regnamespace(quote_ident(d.schema_name)) in (s.relnamespace, m.relnamespace)
        when d.object_type in ('function', 'operator', 'cast', 'type') then p.definitions is not null
        else false end)));
end
$$;
comment on function campfire.guard_projection_drops() is
  'Internal event trigger. Raises 55000 if dropping something would make writes to a projected table fail. The hint is SQL that lets it pass.';

create event trigger campfire_projections on ddl_command_end
  when tag in ('ALTER TABLE', 'CREATE TABLE', 'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER SCHEMA', 'ALTER TYPE',
    'ALTER DOMAIN', 'ALTER OPERATOR', 'ALTER COLLATION', 'ALTER EXTENSION')
  execute function campfire.guard_projections();
comment on event trigger campfire_projections is
  'campfire: keeps projections in step with their tables. Switch off: alter event trigger campfire_projections disable; '
  'then on again: alter event trigger campfire_projections enable; and look at campfire.verify_projection().';
create event trigger campfire_projections_drop on sql_drop execute function campfire.guard_projection_drops();
comment on event trigger campfire_projections_drop is
  'campfire: keeps what projections need from being dropped. Switch off: alter event trigger campfire_projections_drop disable; '
  'then on again: alter event trigger campfire_projections_drop enable;';

create or replace function campfire.install_triggers() returns void
language plpgsql as $$
begin
  create table realtime_conversations (
    id uuid primary key,
    organization_id uuid not null,
    customer_name text,
    customer_email text,
    status text not null,
    priority text not null,
    assignee_id uuid,
    created_at timestamptz not null,
    updated_at timestamptz not null
  );
  comment on table realtime_conversations is
    'campfire: scalar mirror of conversations, written by a trigger and published without a column list. Never write to it.';
  create index realtime_conversations_by_organization on realtime_conversations (organization_id);
  comment on index realtime_conversations_by_organization is 'campfire: what the row-level security policies look for.';
  -- So that deletes and moves to another organization can be routed, and unchanged values are known.
  alter table realtime_conversations replica identity full;

  perform campfire.attach_projection('conversations'::regclass, 'realtime_conversations'::regclass, '{id}',
    '{id,organization_id,customer_name,customer_email,status,priority,assignee_id,created_at,updated_at}', null);

  create trigger touch_conversations_trigger
    after insert on messages referencing new table as inserted
    for each statement execute function campfire.touch_conversations();
  comment on trigger touch_conversations_trigger on messages is
    'campfire: raises updated_at of the conversations that got a message.';
  create trigger keep_updated_at_trigger
    before update of updated_at on conversations
    for each row when (new.updated_at < old.updated_at) execute function campfire.keep_updated_at();
  comment on trigger keep_updated_at_trigger on conversations is
    'campfire: keeps updated_at from going back.';
end
$$;
comment on function campfire.install_triggers() is 'Internal. The standard mirror and the triggers, made by campfire.install().';

create table campfire.user_routes (
  id bigint primary key generated by default as identity,
  relation regclass not null,
  operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE')),
  on_move boolean not null default false check (not on_move or operation <> 'UPDATE'),
  channel text not null,
  event text not null,
  columns name[] not null check (cardinality(columns) > 0),
  when_changed name[] check (when_changed is null or operation = 'UPDATE'),
  enabled boolean not null default true,
  unique (relation, operation, channel, event)
);

comment on table campfire.user_routes is 'Internal. Routes made by campfire.add_route(); dumped. Read campfire.routes instead.';

comment on sequence campfire.user_routes_id_seq is 'Internal. Ids of routes; dumped, so that none is given twice.';

select pg_extension_config_dump('campfire.user_routes', 'where relation in (select oid from pg_catalog.pg_class)');

select pg_extension_config_dump('campfire.user_routes_id_seq', '');

create or replace view campfire.routes as
select
  
  r.key - 1000 * i.number::bigint as id,
  i.schema_name,
  r.table_name,
  r.operation,
  r.on_move,
  r.channel,
  r.event,
  r.columns,
  r.when_changed,
  coalesce(o.enabled, r.enabled) as enabled,
  true as builtin
from campfire.installations as i
cross join campfire.builtin_routes as r
left join campfire.route_overrides as o on o.schema_name = i.schema_name and o.key = r.key
union all
select u.id, n.nspname, c.relname, u.operation, u.on_move, u.channel, u.event, u.columns, u.when_changed, u.enabled, false
from campfire.user_routes as u
join pg_catalog.pg_class as c on c.oid = u.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace;

create or replace function campfire.emit_routes() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_read_committed('routes');
  -- The last to commit must know what the others did. Not a table of routes: two that write to one hold it already.
  lock table campfire.installations in share row exclusive mode;
  -- In the transaction of the change, so that the relay switches at that place of the WAL.
  perform campfire.emit('campfire.routes', jsonb_build_object('routes', coalesce((
    select jsonb_agg(jsonb_build_object(
      'id', r.id, 'schema_name', r.schema_name, 'table_name', r.table_name, 'operation', r.operation, 'on_move', r.on_move,
      'channel', r.channel, 'event', r.event, 'columns', r.columns, 'when_changed', r.when_changed) order by r.id)
    from campfire.routes as r where r.enabled), '[]'))::text);
end
$$;
comment on function campfire.emit_routes() is
  'Internal. Writes the enabled routes into the WAL, as a transactional logical message campfire.routes. One transaction at a time; '
  'raises 55000 in one that is repeatable read or serializable.';

create or replace function campfire.routes_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.emit_routes();
  return null;
end
$$;
comment on function campfire.routes_changed() is 'Internal trigger: tells the relay of a change of routes.';

create trigger routes_changed after insert or update or delete on campfire.user_routes
for each statement execute function campfire.routes_changed();

create trigger routes_changed after insert or update or delete on campfire.route_overrides
for each statement execute function campfire.routes_changed();

create trigger routes_changed after insert or update or delete on campfire.installations
for each statement execute function campfire.routes_changed();

-- The relay knows tables by name. These two tell it when a name changes, at its place in the WAL.

create or replace function campfire.remember_schemas() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- Not a setting called campfire.…: that prefix may be reserved.
  perform set_config('campfire_renames.schemas', coalesce((
    select jsonb_object_agg(n.oid, n.nspname)
    from campfire.installations as i join pg_namespace as n on n.nspname = i.schema_name), '{}')::text, true);
end
$$;
comment on function campfire.remember_schemas() is
  'Internal event trigger: notes the oids of the schemas of installations before one is altered.';

create or replace function campfire.follow_renames() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  renamed record;
begin
  for renamed in
    select before.value as old, n.nspname as new
    from pg_event_trigger_ddl_commands() as d
    join pg_namespace as n on n.oid = d.objid
    join jsonb_each_text(nullif(current_setting('campfire_renames.schemas', true), '')::jsonb) as before on before.key = n.oid::text
    where d.classid = 'pg_namespace'::regclass and before.value <> n.nspname
  loop
    -- An older installation may have been dropped with a schema of the new name.
    delete from campfire.route_overrides as o where o.schema_name = renamed.new;
    delete from campfire.installations as i where i.schema_name = renamed.new;
    update campfire.route_overrides as o set schema_name = renamed.new where o.schema_name = renamed.old;
    update campfire.installations as i set schema_name = renamed.new where i.schema_name = renamed.old;
  end loop;
  if exists (
      select from pg_event_trigger_ddl_commands() as d
      join pg_class as c on (d.classid, d.objid) in (('pg_class'::regclass, c.oid), ('pg_namespace'::regclass, c.relnamespace))
      join campfire.user_routes as u on u.relation = c.oid
      where not d.in_extension) then
    perform campfire.emit_routes();
  end if;
end
$$;
comment on function campfire.follow_renames() is
  'Internal event trigger: keeps installations with their schemas, and tells the relay of routed tables that were altered. '
  'Raises 55000 in a transaction that is repeatable read or serializable.';

create event trigger campfire_remember_schemas on ddl_command_start
  when tag in ('ALTER SCHEMA')
  execute function campfire.remember_schemas();
comment on event trigger campfire_remember_schemas is 'campfire: by this renamed schemas can be followed.';
create event trigger campfire_follow_renames on ddl_command_end
  when tag in ('ALTER SCHEMA', 'ALTER TABLE')
  execute function campfire.follow_renames();
comment on event trigger campfire_follow_renames is
  'campfire: routes follow their tables, installations their schemas.';

create or replace function campfire.add_route(
  relation regclass, operation text, channel text, event text,
  columns name[] default null, when_changed name[] default null, on_move boolean default false) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(relation);
  known constant name[] := array(select c.column_name from campfire.publishable_columns(relation) as c);
  template_columns constant name[] := array(select m[1]::name from regexp_matches(channel, '\{([^{}]*)\}', 'g') as m);
  identity_columns constant name[] := coalesce(campfire.replica_identity_columns(relation), '{}');
  carrier name;
  carried name[];
  payload name[] := columns;
  missing name;
  added bigint;
begin
  perform campfire.require_superuser('campfire.add_route()');
  if relation is null or operation is null or channel is null or event is null or on_move is null then
    raise exception using
      errcode = 'null_value_not_allowed',
      message = 'add_route() needs a table, an operation, a channel and an event';
  end if;
  operation := upper(operation);
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not an operation', operation),
      hint = 'Operations are INSERT, UPDATE and DELETE.';
  end if;
  if event !~ '^[^[:cntrl:]]+$' or octet_length(event) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be the name of an event', left(event, 200)),
      hint = 'A name is 1 to 255 bytes long, without control characters.';
  end if;
  if operation = 'UPDATE' and on_move then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a route of UPDATE cannot fire on moves',
      hint = 'A row that moves to another channel is a DELETE there and an INSERT here: add those routes with on_move.';
  end if;
  if operation <> 'UPDATE' and when_changed is not null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('when_changed means nothing for %s', operation);
  end if;
  if regexp_replace(channel, '\{[^{}]*\}', '', 'g') ~ '[{}[:cntrl:]]' or channel = '' or octet_length(channel) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('malformed channel "%s"', left(channel, 200)),
      hint = 'A template names columns in braces, such as org:{organization_id}:conv:{conversation_id}.';
  end if;
  -- As it will look with uuids in it; raises 22023 for org followed by what no channel of campfire looks like.
  perform campfire.parse_channel(regexp_replace(channel, '\{[^{}]*\}', '00000000-0000-0000-0000-000000000000', 'g'));

  select p.pubname, coalesce(campfire.column_list(p.pubname, relation),
      array(select c.column_name from campfire.publishable_columns(relation) as c where c.publishable))
  into carrier, carried
  from campfire.managed_publications as m
  join pg_publication as p on p.pubname = m.name
  join pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = relation
  order by m.control_of is not null, p.pubname limit 1;
  if not found then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s is not in a publication of campfire''s', qualified),
      hint = format('select campfire.publish(%L, %L);', coalesce(
        (select m.name from campfire.managed_publications as m where m.control_of is null order by m.name limit 1), 'campfire'), qualified);
  end if;
  payload := coalesce(payload, case when operation = 'DELETE'
    then array(select c from unnest(carried) as c where c = any (identity_columns)) else carried end);
  if cardinality(payload) = 0 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a route needs at least one column';
  end if;

  foreach missing in array template_columns || payload || coalesce(when_changed, '{}') loop
    if missing <> all (known) then
      raise exception using
        errcode = 'undefined_column',
        message = format('column %s.%I does not exist', qualified, missing),
        hint = format('select * from campfire.publishable_columns(%L);', qualified);
    elsif missing <> all (carried) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('column %s.%I is not published', qualified, missing),
        hint = format('select campfire.publish(%L, %L, %L);', carrier, qualified, (
          select array_agg(c.column_name) from campfire.publishable_columns(relation) as c
          where c.column_name = any (carried || missing))::text);
    end if;
  end loop;
  foreach missing in array
    case when operation = 'DELETE' then template_columns || payload else '{}' end || coalesce(when_changed, '{}')
  loop
    if missing <> all (identity_columns) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('column %s.%I is not in the replica identity', qualified, missing),
        detail = 'Of a row before its change only the replica identity is known.',
        hint = 'Name only columns of the replica identity, or route from a mirror that has replica identity full.';
    end if;
  end loop;

  if exists (select from campfire.projections as p where p.source = relation) then
    raise warning using
      message = format('%s has a projection', qualified),
      detail = 'Routes from both the table and its mirror send each change twice.',
      hint = format('Route from the mirror: %s.', (select campfire.qualified_name(p.mirror) from campfire.projections as p where p.source = relation));
  end if;
  if exists (
      select from campfire.user_routes as u
      where (u.relation, u.operation, u.channel, u.event) = (relation, operation, channel, event)) then
    raise exception using
      errcode = 'duplicate_object',
      message = format('%s of %s is already routed to "%s" as %s', operation, qualified, channel, event),
      hint = format('select campfire.drop_route(%s);', (
        select u.id from campfire.user_routes as u
        where (u.relation, u.operation, u.channel, u.event) = (relation, operation, channel, event)));
  end if;
  insert into campfire.user_routes (relation, operation, on_move, channel, event, columns, when_changed)
  values (relation, operation, on_move, channel, event, payload, when_changed)
  returning id into added;
  return added;
end
$$;

comment on function campfire.add_route(regclass, text, text, text, name[], name[], boolean) is
  'Sends a published table''s inserts, updates or deletes to a channel; returns the route''s id. {column} in the channel stands for a '
  'value of the row. Without columns: all that are published. Superuser. Raises 42501, 22023 for a malformed channel, event or '
  'operation, 42703 for a column that does not exist, 55000 for a table or column that is not published, or not known of old rows, '
  '42710 for a route that exists; a WARNING if the table has a projection. '
  'Example: select campfire.add_route(''orders'', ''INSERT'', ''shop:{shop_id}'', ''order:created'');';

create or replace function campfire.drop_route(id bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_superuser('campfire.drop_route()');
  if exists (select from campfire.routes as r where r.id = drop_route.id and r.builtin) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('route %s came with campfire and cannot be dropped', id),
      hint = format('select campfire.enable_route(%s, false);', id);
  end if;
  delete from campfire.user_routes as u where u.id = drop_route.id;
  if not found then
    raise exception using
      errcode = 'undefined_object',
      message = format('route %s does not exist', id),
      hint = 'select id, table_name, operation, channel from campfire.routes;';
  end if;
end
$$;

comment on function campfire.drop_route(bigint) is
  'Removes a route that add_route() made. Superuser. Raises 42501, 42704 if there is none, 55000 for a built-in one, which can only be '
  'switched off. Example: select campfire.drop_route(1);';

create or replace function campfire.enable_route(id bigint, enabled boolean default true) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  route campfire.routes;
begin
  perform campfire.require_superuser('campfire.enable_route()');
  if enabled is null then
    raise exception using errcode = 'null_value_not_allowed', message = 'a route is on or off';
  end if;
  select r.* into route from campfire.routes as r where r.id = enable_route.id;
  if not found then
    raise exception using
      errcode = 'undefined_object',
      message = format('route %s does not exist', id),
      hint = 'select id, table_name, operation, channel from campfire.routes;';
  end if;
  if route.enabled = enabled then
    return;
  end if;
  if route.builtin then
    insert into campfire.route_overrides as o (schema_name, key, enabled)
    select route.schema_name, (id + 1000 * i.number::bigint)::smallint, enable_route.enabled
    from campfire.installations as i where i.schema_name = route.schema_name
    on conflict (schema_name, key) do update set enabled = excluded.enabled;
  else
    update campfire.user_routes as u set enabled = enable_route.enabled where u.id = enable_route.id;
  end if;
end
$$;

comment on function campfire.enable_route(bigint, boolean) is
  'Switches a route on or off, built-in or added. Superuser. Raises 42501, 42704 if there is none. '
  'Example: select campfire.enable_route(-929); -- message:deleted, off at first';

insert into campfire.setting_defaults (name, value, description) values
  ('broadcast_bytes_max', '3072000', 'How long the payload of campfire.broadcast() may be, as text in bytes.'),
  ('broadcast_organization_bytes_max', '65536', 'The same on channels of an organization.');

create table campfire.broadcast_keys (
  id integer primary key generated always as identity,
  key bytea not null check (octet_length(key) = 32),
  created_at timestamptz not null default now()
);

comment on table campfire.broadcast_keys is
  'Keys by which the relay knows messages of campfire''s own; the one with the highest id signs. Never dumped. See campfire.rotate_broadcast_key().';

comment on sequence campfire.broadcast_keys_id_seq is 'Internal. Numbers of keys.';

comment on column campfire.broadcast_keys.id is 'Number of the key; stands in each message.';

comment on column campfire.broadcast_keys.key is 'The secret.';

comment on column campfire.broadcast_keys.created_at is 'When it was made.';

create or replace function campfire.rotate_broadcast_key() returns integer
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made integer;
begin
  perform campfire.require_superuser('campfire.rotate_broadcast_key()');
  lock table campfire.broadcast_keys in share row exclusive mode;
  -- Four times 122 random bits of the kind that keys are made of.
  insert into campfire.broadcast_keys (key)
  select sha256(string_agg(uuid_send(gen_random_uuid()), '')) from generate_series(1, 4)
  returning id into made;
  -- The one before stays, for messages that the relay has not read yet.
  delete from campfire.broadcast_keys as k where k.id < (
    select max(p.id) from campfire.broadcast_keys as p where p.id < made);
  return made;
end
$$;

comment on function campfire.rotate_broadcast_key() is
  'Makes a new key for campfire.broadcast(), and forgets all but the one before it, by which messages still in the WAL are known. '
  'Returns its number. Superuser. Raises 42501. Example: select campfire.rotate_broadcast_key();';

select campfire.rotate_broadcast_key();

create or replace function campfire.hmac_sha256(key bytea, message bytea) returns bytea
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  padded constant bytea := key || decode(repeat('00', 64 - octet_length(key)), 'hex');
  inner_key bytea := padded;
  outer_key bytea := padded;
begin
  for i in 0 .. 63 loop
    inner_key := set_byte(inner_key, i, get_byte(padded, i) # 54);
    outer_key := set_byte(outer_key, i, get_byte(padded, i) # 92);
  end loop;
  return sha256(outer_key || sha256(inner_key || message));
end
$$;

comment on function campfire.hmac_sha256(bytea, bytea) is
  'Internal. HMAC-SHA256 (RFC 2104) with a key of at most 64 bytes; here so that pgcrypto need not be.';

create or replace function campfire.emit(prefix text, body text) returns pg_lsn
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  signer campfire.broadcast_keys;
begin
  select k.* into strict signer from campfire.broadcast_keys as k order by k.id desc limit 1;
  return pg_logical_emit_message(true, prefix, format(e'v1 %s %s\n%s', signer.id, encode(campfire.hmac_sha256(signer.key, convert_to(
    format(e'%s\n%s\n%s\n%s', prefix, (select d.oid from pg_database as d where d.datname = current_database()),
      pg_current_xact_id()::xid, body), 'UTF8')), 'hex'), body));
end
$$;

comment on function campfire.emit(text, text) is
  'Internal. Writes a signed, transactional logical message: "v1 KEY HMAC", a line feed, the body. The HMAC-SHA256, in hexadecimal, is '
  'over prefix, oid of the database, xid of the transaction and body, with line feeds between them, in UTF-8.';

create or replace function campfire.broadcast(channel text, event text, payload jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  canonical constant text := regexp_replace(channel, '^bcast:', '');
  scope text;
  bytes_max bigint;
begin
  if channel is null or event is null or payload is null then
    raise exception using
      errcode = 'null_value_not_allowed',
      message = 'broadcast() needs a channel, an event and a payload';
  end if;
  if canonical !~ '^[^[:cntrl:]]+$' or octet_length(canonical) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('malformed channel "%s"', left(channel, 200)),
      hint = 'A channel is 1 to 255 bytes long, without control characters.';
  end if;
  scope := (campfire.parse_channel(channel)).scope;
  if event !~ '^[^[:cntrl:]]+$' or octet_length(event) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be the name of an event', left(event, 200)),
      hint = 'A name is 1 to 255 bytes long, without control characters.';
  end if;
  if scope <> 'other' and event ~ '^(message|conversation|read|agent|campfire):' then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('event "%s" is reserved on channels of an organization', event),
      detail = 'message:, conversation:, read:, agent: and campfire: tell what committed; nobody else may say it.',
      hint = 'Choose another name.';
  end if;
  bytes_max := campfire.setting(case when scope = 'other' then 'broadcast_bytes_max' else 'broadcast_organization_bytes_max' end);
  if octet_length(payload::text) > bytes_max then
    raise exception using
      errcode = 'program_limit_exceeded',
      message = format('the payload has %s bytes, more than %s', octet_length(payload::text), bytes_max),
      hint = format('Send a reference to it, or: update campfire.settings set value = %L where name = %L;', octet_length(payload::text)::text,
        case when scope = 'other' then 'broadcast_bytes_max' else 'broadcast_organization_bytes_max' end);
  end if;
  perform campfire.emit('campfire.broadcast', format(e'%s\n%s\n%s', canonical, event, payload));
end
$$;

comment on function campfire.broadcast(text, text, jsonb) is
  'Sends an event to the subscribers of a channel when the transaction commits, and never if it does not. EXECUTE for service_role '
  'only. Raises 22023 for a malformed channel or event, 42501 for an event that is reserved on channels of an organization, 54000 for '
  'a payload above the settings broadcast_bytes_max and broadcast_organization_bytes_max, 22004 for null. '
  'Example: select campfire.broadcast(''news'', ''published'', ''{"id": 7}'');';

create or replace function campfire.touch_conversations() returns trigger
language c security definer set search_path = pg_catalog, pg_temp
as 'campfire-0.2.0', 'touch_conversations_wrapper';

create or replace function campfire.install(schema name default 'public') returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  names constant name[] := '{organizations,agents,conversations,messages,realtime_conversations,read_receipts}';
  types constant name[] := '{conversation_status,conversation_priority}';
  current_version constant text := (select extversion from pg_extension where extname = 'campfire');
  installed_version text;
  existing name[];
begin
  perform campfire.require_superuser('campfire.install()');
  if schema is null or schema = 'campfire' or schema = 'information_schema' or schema like 'pg\_%' then
    raise exception using
      errcode = 'invalid_schema_name',
      message = format('the chat tables cannot be installed in schema "%s"', schema),
      hint = 'create schema chat; select campfire.install(''chat'');';
  end if;
  if to_regnamespace(quote_ident(schema)) is null then
    raise exception using
      errcode = 'invalid_schema_name',
      message = format('schema "%s" does not exist', schema),
      hint = format('create schema %1$I; select campfire.install(%1$L);', schema);
  end if;
  lock table campfire.installations in share row exclusive mode;

  -- Every table, index and enum has its name in one of these two catalogs.
  select array_agg(distinct taken.name order by taken.name) into existing from (
    select relname as name from pg_class
    where relnamespace = to_regnamespace(quote_ident(schema)) and relname = any (names)
    union all
    select typname from pg_type
    where typnamespace = to_regnamespace(quote_ident(schema)) and typname = any (names || types)
  ) as taken;
  select i.version into installed_version from campfire.installations as i where i.schema_name = schema;

  if installed_version is not null and existing @> (names || types) then
    if installed_version = current_version then
      raise notice 'campfire % is already installed in schema "%"', installed_version, schema;
      return;
    end if;
    -- 0.2.0: the id of a message is the database's. See install_rights().
    execute format('revoke insert (id) on table %I.messages from anon, authenticated', schema);
    update campfire.installations as i set version = current_version where i.schema_name = schema;
    perform campfire.create_publication();
    raise notice 'campfire in schema "%" went from % to %', schema, installed_version, current_version;
    return;
  end if;
  if installed_version is not null and existing is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the installation in schema "%s" is incomplete', schema),
      detail = format('Missing: %s.', (select string_agg(n, ', ') from unnest(names || types) as n where n <> all (existing))),
      hint = 'Restore what is missing from a backup, or drop the rest and run install() again.';
  end if;
  if existing is not null then
    raise exception using
      errcode = 'duplicate_table',
      message = format('%I.%I already exists and is not campfire''s', schema, existing[1]),
      detail = format('In the way in schema "%s": %s.', schema, array_to_string(existing, ', ')),
      hint = 'Install next to them: create schema chat; select campfire.install(''chat''); '
        'or keep your own tables, without install(), and publish them: see campfire.create_publication().';
  end if;

  -- Of an installation whose tables were dropped.
  delete from campfire.projection_registry as p where not exists (select from pg_class as c where c.oid = p.source);
  -- Not pg_catalog in front: that would be where the tables go. It is searched first all the same.
  perform set_config('search_path', format('%I, pg_temp', schema), true);
  perform campfire.install_tables();
  perform campfire.install_triggers();
  perform campfire.install_rights();
  perform set_config('search_path', 'pg_catalog, pg_temp', true);

  insert into campfire.installations as i (schema_name, version, number)
  values (schema, current_version, coalesce((select max(number) from campfire.installations), 0) + 1)
  on conflict (schema_name) do update set version = excluded.version, installed_at = now();
  perform campfire.create_publication();
end
$$;

create or replace function campfire.install_rights() returns void
language plpgsql as $$
declare
  made record;
begin
  execute format('grant usage on schema %s to anon, authenticated, service_role, campfire_relay',
    (select relnamespace::regnamespace from pg_catalog.pg_class where oid = 'conversations'::regclass));
  grant usage on type conversation_status, conversation_priority to anon, authenticated, service_role, campfire_relay;
  revoke all on table organizations, agents, conversations, messages, realtime_conversations, read_receipts
    from public, anon, authenticated, service_role, campfire_relay;

  alter table organizations enable row level security;
  alter table agents enable row level security;
  alter table conversations enable row level security;
  alter table messages enable row level security;
  alter table realtime_conversations enable row level security;
  alter table read_receipts enable row level security;

  -- Visitors: their own conversation, in columns that are meant for them. created_at is the database's.
  grant select (id, organization_id, customer_name, customer_email, status, created_at, updated_at),
        insert (id, organization_id, customer_name, customer_email, customer_ip, customer, metadata)
    on conversations to anon;
  -- The id is the database's too: it is unique among all organizations, and one that is taken would tell of another's.
  grant select (id, conversation_id, organization_id, content, sender_type, sender_name, created_at),
        insert (conversation_id, organization_id, content, sender_type, sender_name, sender_email)
    on messages to anon;
  grant select (id, organization_id, status, updated_at) on realtime_conversations to anon;
  -- Not reader_id: a visitor sees no agent's id.
  grant select (conversation_id, organization_id, reader_type, last_read_message_id, read_at),
        insert (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at),
        update (last_read_message_id, read_at)
    on read_receipts to anon;

  create policy conversations_visitor_select on conversations for select to anon using (
    organization_id = (select campfire.claim_organization()) and id = (select campfire.claim_conversation()));
  create policy conversations_visitor_insert on conversations for insert to anon with check (
    organization_id = (select campfire.claim_organization()) and id = (select campfire.claim_conversation()));
  create policy messages_visitor_select on messages for select to anon using (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation()));
  create policy messages_visitor_insert on messages for insert to anon with check (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation())
    and sender_type = 'visitor');
  create policy realtime_conv_select_visitor on realtime_conversations for select to anon using (
    organization_id = (select campfire.claim_organization()) and id = (select campfire.claim_conversation()));
  create policy read_receipts_visitor_select on read_receipts for select to anon using (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation()));
  create policy read_receipts_visitor_insert on read_receipts for insert to anon with check (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation())
    and reader_type = 'visitor' and reader_id = (select campfire.claim_conversation()));
  create policy read_receipts_visitor_update on read_receipts for update to anon using (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation())
    and reader_type = 'visitor' and reader_id = (select campfire.claim_conversation()));

  -- Agents: their organization, as long as they are active there.
  grant select on organizations, agents, conversations, messages, realtime_conversations, read_receipts to authenticated;
  grant update (customer_name, customer_email, status, priority, assignee_id, assignment_metadata, customer, metadata,
      ai_metadata, tags, updated_at)
    on conversations to authenticated;
  grant insert (conversation_id, organization_id, content, sender_type, sender_name, sender_email, metadata, attachments)
    on messages to authenticated;
  grant insert (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at),
        update (last_read_message_id, read_at)
    on read_receipts to authenticated;

  create policy organizations_agent_select on organizations for select to authenticated using (
    id = (select campfire.agent_organization('agents'::regclass)));
  create policy agents_agent_select on agents for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy conversations_agent_select on conversations for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy conversations_agent_update on conversations for update to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy messages_agent_select on messages for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy messages_agent_insert on messages for insert to authenticated with check (
    organization_id = (select campfire.agent_organization('agents'::regclass)) and sender_type = 'agent');
  create policy realtime_conv_select on realtime_conversations for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy read_receipts_agent_select on read_receipts for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy read_receipts_agent_insert on read_receipts for insert to authenticated with check (
    organization_id = (select campfire.agent_organization('agents'::regclass))
    and reader_type = 'agent' and reader_id = (select campfire.claim_subject()));
  create policy read_receipts_agent_update on read_receipts for update to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass))
    and reader_type = 'agent' and reader_id = (select campfire.claim_subject()));

  -- The mirror is written by its owner alone, through the trigger. Even a grant by mistake opens nothing.
  create policy realtime_conv_insert on realtime_conversations for insert with check (false);
  create policy realtime_conv_update on realtime_conversations for update using (false);

  -- Server code.
  grant select, insert, update, delete on organizations, agents, conversations, messages, read_receipts to service_role;
  grant select on realtime_conversations to service_role;
  create policy organizations_service on organizations to service_role using (true);
  create policy agents_service on agents to service_role using (true);
  create policy conversations_service on conversations to service_role using (true);
  create policy messages_service on messages to service_role using (true);
  create policy realtime_conv_select_service on realtime_conversations for select to service_role using (true);
  create policy read_receipts_service on read_receipts to service_role using (true);

  -- The relay itself: who is an agent, and whether active.
  grant select (organization_id, user_id, display_name, active) on agents to campfire_relay;
  create policy agents_relay_select on agents for select to campfire_relay using (true);

  for made in
    select p.polname, p.polrelid::regclass as relation, case p.polroles[1]
        when 'anon'::regrole then 'a visitor, in the conversation of the claims'
        when 'authenticated'::regrole then 'an active agent, in the organization of the claims'
        when 'service_role'::regrole then 'server code, everywhere'
        when 'campfire_relay'::regrole then 'the relay, which admits agents by this table'
        else 'nobody: the mirror is written by the trigger, as its owner'
      end as purpose
    from pg_policy as p
    where p.polrelid = any (array['organizations', 'agents', 'conversations', 'messages', 'realtime_conversations', 'read_receipts']::regclass[])
  loop
    execute format('comment on policy %I on %s is %L', made.polname, made.relation, 'campfire: ' || made.purpose || '.');
  end loop;
end
$$;
comment on function campfire.install_rights() is 'Internal. Grants and policies of the chat tables, made by campfire.install().';
comment on function campfire.install(name) is
  'Makes the chat tables in a schema, with their triggers, policies and publications. They are ordinary tables: dumped, '
  'altered and kept like any other, also by DROP EXTENSION ... CASCADE. Run again after an upgrade it applies what is new, else it changes nothing. Superuser; EXECUTE is '
  'revoked from public. Raises 42501, 3F000 for a schema that is missing or reserved, 42P07 if tables of these names are not '
  'campfire''s, 55000 if some of campfire''s are gone. Example: select campfire.install();';

comment on function campfire.install(name) is
  'Makes the chat tables in a schema, with their triggers, policies and publications. They are ordinary tables: dumped, '
  'altered and kept like any other, also by DROP EXTENSION ... CASCADE. Run again after an upgrade it applies what is new, else it changes nothing. Superuser; EXECUTE is '
  'revoked from public. Raises 42501, 3F000 for a schema that is missing or reserved, 42P07 if tables of these names are not '
  'campfire''s, 55000 if some of campfire''s are gone. Example: select campfire.install();';

create table campfire.slot_events (
  occurred_at timestamptz not null default clock_timestamp(),
  slot_name name not null,
  event text not null check (event in ('dropped')),
  restart_lsn pg_lsn not null,
  confirmed_flush_lsn pg_lsn,
  retained_bytes bigint not null,
  retained_bytes_max bigint not null,
  primary key (occurred_at, slot_name)
);

comment on table campfire.slot_events is
  'Replication slots of this database that the slot guard dropped; never dumped. Rows may be deleted. See campfire.slot_max_retained in the documentation.';

comment on column campfire.slot_events.occurred_at is 'When.';

comment on column campfire.slot_events.slot_name is 'Name of the slot.';

comment on column campfire.slot_events.event is 'What was done: dropped.';

comment on column campfire.slot_events.restart_lsn is 'From where on the server kept WAL for the slot.';

comment on column campfire.slot_events.confirmed_flush_lsn is 'Up to where the slot had been read: what committed after it may not have been sent.';

comment on column campfire.slot_events.retained_bytes is 'WAL that the slot held back.';

comment on column campfire.slot_events.retained_bytes_max is 'What campfire.slot_max_retained allowed.';

-- Schema realtime: what applications written for Supabase Realtime call and put policies on.
--
-- Ordinary objects, as the chat tables are: they dump and restore with the policies of the application, and DROP
-- EXTENSION leaves them. A row reaches the relay as a signed logical message which a trigger writes, not by a
-- publication: jsonb and bytea are not scalar, a scalar copy would double every row, and partitions that come and go
-- every day would change a publication every day.

insert into campfire.setting_defaults (name, value, description) values
  ('realtime_retention_hours', '72', 'How long rows of realtime.messages are kept, in hours; they go by whole days.');

create function campfire.has_supabase_api() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (
  select from pg_catalog.pg_namespace as n
  join pg_catalog.pg_roles as r on r.oid = n.nspowner and r.rolsuper
  where n.nspname = 'realtime'
    and pg_catalog.obj_description(n.oid, 'pg_namespace') like 'campfire: %'
);
comment on function campfire.has_supabase_api() is
  'Whether schema realtime is there and is campfire''s: it has its comment and belongs to a superuser. Example: select campfire.has_supabase_api();';

create function campfire.broadcast_realtime_message() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  bytes_max constant bigint := campfire.setting('broadcast_bytes_max');
  body text;
begin
  if (campfire.parse_channel(new.topic)).scope <> 'other' then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('"%s" is a channel of an organization', left(new.topic, 200)),
      detail = 'What is said there is decided by the claims of who listens, not by policies on realtime.messages.',
      hint = format('select campfire.broadcast(%L, ''my_event'', ''{}'');', left(new.topic, 200));
  end if;
  -- Binary wins, as in the reference.
  body := case when new.binary_payload is null
    then jsonb_build_object('id', new.id, 'topic', new.topic, 'event', new.event, 'private', new.private, 'payload', new.payload)
    else jsonb_build_object('id', new.id, 'topic', new.topic, 'event', new.event, 'private', new.private,
      'binary', translate(encode(new.binary_payload, 'base64'), e'\n', ''))
    end::text;
  if octet_length(body) > bytes_max then
    raise exception using
      errcode = 'program_limit_exceeded',
      message = format('the message has %s bytes, more than %s', octet_length(body), bytes_max),
      hint = format('update campfire.settings set value = %L where name = ''broadcast_bytes_max'';', octet_length(body)::text);
  end if;
  perform campfire.emit('campfire.realtime', body);
  return null;
end
$$;
comment on function campfire.broadcast_realtime_message() is
  'Trigger after insert on realtime.messages, for each row: writes the message into the WAL, signed. Raises 42501 for a channel of an '
  'organization, 22023 for a malformed one, 54000 above the setting broadcast_bytes_max.';

create function campfire.install_supabase_api() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $install$
begin
  perform campfire.require_superuser('campfire.install_supabase_api()');
  if to_regnamespace('realtime') is not null and not campfire.has_supabase_api() then
    raise exception using
      errcode = 'duplicate_schema',
      message = 'schema "realtime" already exists and is not campfire''s',
      detail = 'Nothing in it was touched. campfire''s has a comment that says so, and belongs to a superuser.',
      hint = 'alter schema realtime rename to realtime_before_campfire; select campfire.install_supabase_api();';
  end if;
  -- Two at once: the second waits here and then finds what the first made.
  lock table campfire.installations in share row exclusive mode;

  if to_regnamespace('realtime') is null then
    create schema realtime;
    comment on schema realtime is 'campfire: what applications of Supabase Realtime expect. Made by campfire.install_supabase_api().';
  end if;
  grant usage on schema realtime to anon, authenticated, service_role, campfire_relay;

  if to_regclass('realtime.messages') is null then
    create table realtime.messages (
      id uuid not null default gen_random_uuid(),
      topic text not null,
      extension text not null,
      event text,
      payload jsonb,
      binary_payload bytea,
      private boolean default false,
      inserted_at timestamp not null default (now() at time zone 'utc'),
      updated_at timestamp not null default (now() at time zone 'utc'),
      primary key (id, inserted_at),
      constraint messages_one_payload check (payload is null or binary_payload is null)
    ) partition by range (inserted_at);
    comment on table realtime.messages is
      'campfire: messages of SQL for channels outside org:, one partition a day. Policies on this table decide who may join and send on private channels.';
    comment on column realtime.messages.id is 'Id of the message; what clients see as meta.id.';
    comment on column realtime.messages.topic is 'The channel, as clients name it. Policies compare realtime.topic().';
    comment on column realtime.messages.extension is 'broadcast or presence: what a policy is asked about.';
    comment on column realtime.messages.event is 'Name of the event; a row without is not sent.';
    comment on column realtime.messages.payload is 'What clients receive.';
    comment on column realtime.messages.binary_payload is 'The same, as bytes; for clients of serialization 2.0.0.';
    comment on column realtime.messages.private is 'Whether it goes to the private channel of that name, or to the public one.';
    comment on column realtime.messages.inserted_at is 'When it was sent, UTC; decides the partition.';
    comment on column realtime.messages.updated_at is 'The same, for applications that read it.';
    create index messages_by_topic on realtime.messages (topic, inserted_at desc) where extension = 'broadcast' and private;
    comment on index realtime.messages_by_topic is 'campfire: what a channel''s history is looked for by.';
    alter table realtime.messages enable row level security;
    create policy messages_service on realtime.messages to service_role using (true);
    comment on policy messages_service on realtime.messages is 'campfire: server code, everywhere.';
  end if;
  if not exists (select from pg_trigger as t where t.tgrelid = 'realtime.messages'::regclass and t.tgname = 'broadcast_realtime_message_trigger') then
    create trigger broadcast_realtime_message_trigger
      after insert on realtime.messages
      for each row when (new.event is not null and new.private is not null and (new.payload is not null or new.binary_payload is not null))
      execute function campfire.broadcast_realtime_message();
    comment on trigger broadcast_realtime_message_trigger on realtime.messages is 'campfire: sends the row when its transaction commits.';
  end if;
  revoke all on table realtime.messages from public, anon, authenticated, service_role, campfire_relay;
  grant select, insert, update on table realtime.messages to anon, authenticated, service_role;

  create or replace function realtime.topic() returns text language sql stable
  return nullif(pg_catalog.current_setting('realtime.topic', true), '');
  comment on function realtime.topic() is
    'The channel that a policy on realtime.messages is asked about, without realtime:. '
    'Example: create policy members on realtime.messages for select to authenticated using (realtime.topic() = ''room:7'');';

  create or replace function realtime.partition_name(day date) returns name
  language sql immutable strict
  return 'messages_' || pg_catalog.to_char(day, 'YYYY_MM_DD');
  comment on function realtime.partition_name(date) is 'Internal. Name of a day''s partition.';

  create or replace function realtime.make_partitions() returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
  declare
    today constant date := (now() at time zone 'utc')::date;
    wanted date;
    made integer := 0;
  begin
    -- Conflicts with itself and not with INSERT. Attaching takes it too, unlike CREATE ... PARTITION OF.
    lock table realtime.messages in share update exclusive mode;
    for wanted in select today + n from generate_series(-1, 3) as n loop
      continue when to_regclass(format('realtime.%I', realtime.partition_name(wanted))) is not null;
      execute format('create table realtime.%I (like realtime.messages including defaults including constraints)',
        realtime.partition_name(wanted));
      -- Only the whole table is for callers: there its policies hold.
      execute format('revoke all on table realtime.%I from public, anon, authenticated, service_role, campfire_relay',
        realtime.partition_name(wanted));
      execute format('alter table realtime.%I enable row level security', realtime.partition_name(wanted));
      execute format('comment on table realtime.%I is %L', realtime.partition_name(wanted),
        'campfire: a day of realtime.messages. Read and write that one.');
      execute format('alter table realtime.messages attach partition realtime.%I for values from (%L) to (%L)',
        realtime.partition_name(wanted), wanted, wanted + 1);
      made := made + 1;
    end loop;
    return made;
  end
  $$;
  comment on function realtime.make_partitions() is
    'Makes the partitions from yesterday to three days from now that are missing, as the owner of realtime.messages; returns how many. '
    'Called by realtime.send() where today''s is missing, and by realtime.maintain().';

  create or replace function realtime.maintain() returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
  declare
    -- Yesterday stays: make_partitions() would make it again.
    oldest constant date := least((now() at time zone 'utc')::date - 1,
      (now() at time zone 'utc' - make_interval(hours => campfire.setting('realtime_retention_hours')::integer))::date);
    lock_timeout constant text := current_setting('lock_timeout');
    partition record;
  begin
    perform realtime.make_partitions();
    for partition in
      select c.relname
      from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
      where i.inhparent = 'realtime.messages'::regclass
        and c.relname ~ '^messages_[0-9]{4}_[0-9]{2}_[0-9]{2}$' and c.relname < realtime.partition_name(oldest)
    loop
      begin
        -- Dropping waits for whoever uses the table, and everybody else would wait behind us.
        perform set_config('lock_timeout', '100ms', true);
        execute format('drop table realtime.%I', partition.relname);
      exception when lock_not_available then
        raise notice 'partition realtime.% is in use and stays until the next time', partition.relname;
      end;
    end loop;
    perform set_config('lock_timeout', lock_timeout, true);
  end
  $$;
  comment on function realtime.maintain() is
    'Makes the partitions that are missing and drops those older than the setting realtime_retention_hours, as the owner of '
    'realtime.messages. The relay calls it every hour; without a relay: a job of the application. Example: select realtime.maintain();';

  create or replace function realtime.probe(topic text, extensions text[]) returns table (extension text, id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
  begin
    if to_regclass(format('realtime.%I', realtime.partition_name((now() at time zone 'utc')::date))) is null then
      perform realtime.make_partitions();
    end if;
    return query
      insert into realtime.messages as m (topic, extension)
      select probe.topic, e from unnest(extensions) as e
      returning m.extension, m.id;
  end
  $$;
  comment on function realtime.probe(text, text[]) is 'Internal. Inserts as the owner of realtime.messages; see campfire.realtime_probe(text, text[]).';

  create or replace function realtime.history(topic text, since timestamptz, rows_max integer)
  returns table (id uuid, event text, payload text, binary_payload bytea)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
  declare
    knows_commits constant boolean := current_setting('track_commit_timestamp')::boolean;
  begin
    return query
      select newest.id, newest.event, newest.payload, newest.binary_payload
      from (
        select m.id, m.event, m.payload::text, m.binary_payload, m.inserted_at,
          case when knows_commits then pg_xact_commit_timestamp(m.xmin) at time zone 'utc' end as committed_at
        from realtime.messages as m
        where m.topic = history.topic and m.extension = 'broadcast' and m.private
          and m.inserted_at >= history.since at time zone 'utc'
          and m.inserted_at < now() at time zone 'utc' + interval '1 minute'
          and m.event is not null and (m.payload is not null or m.binary_payload is not null)
        order by m.inserted_at desc, m.id desc
        limit rows_max
      ) as newest
      order by coalesce(newest.committed_at, newest.inserted_at), newest.inserted_at, newest.id;
  end
  $$;
  comment on function realtime.history(text, timestamptz, integer) is
    'Internal. Reads as the owner of realtime.messages; see campfire.realtime_history(text, timestamptz, integer).';

  create or replace function realtime.insert_message(id uuid, payload jsonb, binary_payload bytea, event text, topic text, private boolean) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
  begin
    perform set_config('realtime.topic', insert_message.topic, true);
    if to_regclass(format('realtime.%I', realtime.partition_name((now() at time zone 'utc')::date))) is null then
      perform realtime.make_partitions();
    end if;
    insert into realtime.messages (id, payload, binary_payload, event, topic, private, extension)
    values (insert_message.id, insert_message.payload, insert_message.binary_payload, insert_message.event,
      insert_message.topic, insert_message.private, 'broadcast');
  exception when others then
    -- The reference does the same: what cannot be sent must not undo what the application has written.
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm using errcode = sqlstate;
  end
  $$;
  comment on function realtime.insert_message(uuid, jsonb, bytea, text, text, boolean) is
    'Internal. What realtime.send() and realtime.send_binary() have in common.';

  create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
  declare
    id constant uuid := gen_random_uuid();
  begin
    if jsonb_typeof(payload) <> 'object' then
      raise warning 'WarnSendingBroadcastMessage: the payload is not a JSON object' using errcode = 'invalid_parameter_value';
      return;
    end if;
    perform realtime.insert_message(id, case when payload ? 'id' then payload else payload || jsonb_build_object('id', id) end,
      null, event, topic, private);
  end
  $$;
  comment on function realtime.send(jsonb, text, text, boolean) is
    'Sends an event to the subscribers of a channel when the transaction commits, with the caller''s rights on realtime.messages. The '
    'payload gets an "id" where it has none. Whatever fails is a WARNING. Example: select realtime.send(''{"n": 1}'', ''ping'', ''room:7'');';

  create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
  language sql set search_path = pg_catalog, pg_temp
  begin atomic
    select realtime.insert_message(gen_random_uuid(), null, send_binary.payload, send_binary.event, send_binary.topic, send_binary.private);
  end;
  comment on function realtime.send_binary(bytea, text, text, boolean) is
    'The same with bytes, for clients of serialization 2.0.0. Example: select realtime.send_binary(''\x0102'', ''frame'', ''room:7'');';

  create or replace function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text default 'ROW') returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
  begin
    if level = 'STATEMENT' then
      raise exception using
        errcode = 'feature_not_supported',
        message = 'broadcast_changes() is for triggers for each row',
        hint = 'Create the trigger with: for each row.';
    end if;
    if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('broadcast_changes() knows no operation "%s"', operation),
        hint = 'Pass tg_op of a trigger after insert, update or delete.';
    end if;
    perform realtime.send(
      jsonb_build_object(
        'schema', table_schema, 'table', table_name, 'operation', operation,
        'record', case when operation <> 'DELETE' then to_jsonb(new) end,
        'old_record', case when operation <> 'INSERT' then to_jsonb(old) end),
      event_name, topic_name);
  end
  $$;
  comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
    'For triggers: sends the row before and after to a private channel. Raises 22023 for another operation, 0A000 for level STATEMENT. '
    'Example: perform realtime.broadcast_changes(''room:'' || new.room_id, tg_op, tg_op, tg_table_name, tg_table_schema, new, old);';

  revoke all on all functions in schema realtime from public, anon, authenticated, service_role, campfire_relay;
  grant execute on function
    realtime.topic(), realtime.partition_name(date), realtime.make_partitions(),
    realtime.insert_message(uuid, jsonb, bytea, text, text, boolean),
    realtime.send(jsonb, text, text, boolean), realtime.send_binary(bytea, text, text, boolean),
    realtime.broadcast_changes(text, text, text, text, text, record, record, text)
  to anon, authenticated, service_role;
  grant execute on function realtime.partition_name(date), realtime.maintain(), realtime.probe(text, text[]),
    realtime.history(text, timestamptz, integer)
  to campfire_relay;

  perform realtime.maintain();
  raise notice 'schema realtime is ready; next: policies on realtime.messages';
end
$install$;
comment on function campfire.install_supabase_api() is
  'Makes schema realtime, for applications of Supabase Realtime: messages, topic(), send(), send_binary(), broadcast_changes(). Ordinary '
  'objects; run again, it brings the functions up to date and keeps rows and policies. Superuser. Raises 42501, 42P06 where another '
  'schema realtime exists. Example: select campfire.install_supabase_api();';

create function campfire.remove_supabase_api() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made record;
begin
  perform campfire.require_superuser('campfire.remove_supabase_api()');
  if to_regnamespace('realtime') is null then
    raise notice 'there is no schema realtime';
    return;
  end if;
  if not campfire.has_supabase_api() then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'schema "realtime" is not campfire''s',
      hint = 'Whoever made it knows how to remove it. Nothing was touched.';
  end if;
  -- Never CASCADE: what the application built on it names itself in the error.
  drop table realtime.messages;
  for made in
    select p.oid::regprocedure as signature from pg_proc as p
    where p.pronamespace = 'realtime'::regnamespace
      and p.proname in ('send_binary', 'send', 'broadcast_changes', 'insert_message', 'probe', 'history', 'maintain', 'make_partitions', 'partition_name', 'topic')
    order by p.proname in ('insert_message', 'partition_name') -- others call them
  loop
    execute format('drop function %s', made.signature);
  end loop;
  drop schema realtime;
end
$$;
comment on function campfire.remove_supabase_api() is
  'Removes what campfire.install_supabase_api() made, with the messages and the policies on them. Superuser. Raises 42501, 55000 where '
  'schema realtime is not campfire''s, 2BP01 where something of the application depends on it or lies in it. '
  'Example: select campfire.remove_supabase_api();';

create function campfire.require_supabase_api() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not campfire.has_supabase_api() then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'schema realtime is missing, or is not campfire''s',
      hint = 'select campfire.install_supabase_api();';
  end if;
end
$$;
comment on function campfire.require_supabase_api() is 'Internal. Raises 55000 unless schema realtime is campfire''s.';

create function campfire.realtime_probe(topic text, extensions text[]) returns table (extension text, id uuid)
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_supabase_api();
  return query select p.extension, p.id from realtime.probe(realtime_probe.topic, realtime_probe.extensions) as p;
end
$$;
comment on function campfire.realtime_probe(text, text[]) is
  'For the relay: inserts a row into realtime.messages for each extension (broadcast, presence) and returns their ids, whatever the '
  'policies say. Then, in the same transaction: set the role, realtime.topic and the claims, see which of the ids can be selected, and '
  'always roll back. Such a row has no event and no payload, so nothing is sent even if it were committed. Raises 55000 without schema '
  'realtime. Example: select * from campfire.realtime_probe(''room:7'', ''{broadcast,presence}'');';

create function campfire.realtime_history(topic text, since timestamptz, rows_max integer)
returns table (id uuid, event text, payload text, binary_payload bytea)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_supabase_api();
  return query select h.id, h.event, h.payload, h.binary_payload
    from realtime.history(realtime_history.topic, realtime_history.since, realtime_history.rows_max) as h;
end
$$;
comment on function campfire.realtime_history(text, timestamptz, integer) is
  'For the relay: the newest messages of a private channel with inserted_at since then, oldest first, whatever the policies say; whoever '
  'asks for them was admitted by the policies. In the order of their commits where track_commit_timestamp is on, else of inserted_at. '
  'Raises 55000 without schema realtime. Example: select * from campfire.realtime_history(''room:7'', now() - interval ''1 hour'', 25);';

create function campfire.maintain_supabase_api() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if campfire.has_supabase_api() then
    perform realtime.maintain();
  end if;
end
$$;
comment on function campfire.maintain_supabase_api() is
  'For the relay, every hour: realtime.maintain() if schema realtime is there and is campfire''s. Example: select campfire.maintain_supabase_api();';

revoke all on all routines in schema campfire from public, anon, authenticated, service_role, campfire_relay;

revoke all on all tables in schema campfire from public, anon, authenticated, service_role, campfire_relay;

grant execute on function
  campfire.channel_organization(uuid),
  campfire.channel_conversation(uuid, uuid),
  campfire.channel_conversations(uuid),
  campfire.channel_widget(uuid, uuid),
  campfire.parse_channel(text),
  campfire.is_scalar(regtype),
  campfire.publishable_columns(regclass),
  campfire.qualified_name(regclass),
  campfire.replica_identity_columns(regclass),
  campfire.column_list(name, regclass),
  campfire.require_superuser(text)
to public;

grant select on campfire.projections to public;
grant execute on routine
  campfire.create_projection(regclass, text[], integer),
  campfire.repair_projection(regclass, bigint, integer),
  campfire.verify_projection(regclass),
  campfire.drop_projection(regclass, boolean),
  campfire.default_projection(regclass),
  campfire.projected_type(regtype),
  campfire.projection_columns(regclass, text[]),
  campfire.query_as_owner(regclass, text),
  campfire.start_projection(regclass, text[]),
  campfire.backfill_batch(regclass, integer),
  campfire.require_no_transaction(text),
  campfire.require_projection(regclass),
  campfire.only_of(regclass),
  campfire.projection_query(regclass),
  campfire.projection_column_list(name[], text),
  campfire.difference_query(regclass),
  campfire.repair_keys(regclass, jsonb)
to public;

grant select on campfire.settings to public;

grant execute on function
  campfire.setting(text),
  campfire.claim_from_json(text, text),
  campfire.claim(text),
  campfire.uuid_or_null(text),
  campfire.claim_organization(),
  campfire.claim_conversation(),
  campfire.claim_subject()
to public;

grant execute on function campfire.is_agent(regclass), campfire.agent_organization(regclass) to authenticated;

grant execute on function campfire.broadcast(text, text, jsonb) to service_role;

grant select on
  campfire.installations,
  campfire.projections,
  campfire.routes,
  campfire.managed_publications,
  campfire.builtin_tables,
  campfire.broadcast_keys
to campfire_relay;

grant select, insert, update, delete on campfire.slots to campfire_relay;

grant select on campfire.slot_events to campfire_relay, pg_monitor;

grant execute on function
  campfire.check_publication(name),
  campfire.publication_verdict(name),
  campfire.standard_tables(name, boolean),
  campfire.suggested_identity(regclass),
  campfire.builtin_table(regclass),
  campfire.filter_columns(name, regclass),
  campfire.has_supabase_api(),
  campfire.require_supabase_api(),
  campfire.realtime_probe(text, text[]),
  campfire.realtime_history(text, timestamptz, integer),
  campfire.maintain_supabase_api()
to campfire_relay;

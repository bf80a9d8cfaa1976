-- Publications that carry scalar columns only, whatever is in the tables.
--
-- Publications are made by functions, never by the extension script: they are not extension members, so a dump
-- would carry them a second time.

-- One row per table that install() makes and the relay reads.
create table campfire.builtin_tables (
  table_name name primary key,
  control boolean not null,
  columns name[] not null,
  listed boolean not null, -- if not, replica identity full and no list
  identity_columns name[] -- what the replica identity must cover for deletes to be routed, beyond the key
);
comment on table campfire.builtin_tables is
  'Internal. What the standard publications carry: control tells which of the two, listed whether by a column list.';

insert into campfire.builtin_tables (table_name, control, columns, listed, identity_columns) values
  ('conversations', false, '{id,organization_id,customer_name,customer_email,created_at,updated_at}', true, null),
  ('messages', false, '{id,conversation_id,organization_id,content,sender_type,sender_name,sender_email,created_at}', true, '{id,conversation_id,organization_id}'),
  ('realtime_conversations', false, '{id,organization_id,customer_name,customer_email,status,priority,assignee_id,created_at,updated_at}', false, null),
  ('agents', true, '{organization_id,user_id,display_name,active}', true, null),
  ('read_receipts', true, '{conversation_id,organization_id,reader_type,reader_id,last_read_message_id,read_at}', false, null);

create function campfire.builtin_table(relation regclass) returns setof campfire.builtin_tables
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

-- What a column may be --------------------------------------------------------------------------------------------

create function campfire.is_scalar(type regtype) returns boolean
language sql stable strict parallel safe
return type in (
    'uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype,
    'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype,
    'numeric'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
    'timestamptz'::regtype)
  -- Looked for only where it must be: the guard asks for every column of every published table.
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
comment on function campfire.is_scalar(regtype) is
  'The one verdict on types: whether a column of this type may be published. Domains are judged by what they are over. '
  'Example: select campfire.is_scalar(''jsonb'');';

create function campfire.publishable_columns(relation regclass)
returns table (column_name name, type_name text, publishable boolean, reason text)
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  select
    a.attname,
    pg_catalog.format_type(a.atttypid, a.atttypmod),
    a.attgenerated = '' and campfire.is_scalar(a.atttypid::regtype),
    case
      when a.attgenerated <> '' then 'generated columns are not replicated'
      when not campfire.is_scalar(a.atttypid::regtype)
        then pg_catalog.format('type %s is not scalar', pg_catalog.format_type(a.atttypid, a.atttypmod))
    end
  from pg_catalog.pg_attribute as a
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
  order by a.attnum;
end;
comment on function campfire.publishable_columns(regclass) is
  'Columns of a table, and which of them may be published; reason says why not. Example: select * from campfire.publishable_columns(''conversations'');';

create function campfire.qualified_name(relation regclass) returns text
language sql stable strict parallel safe
return (
  select pg_catalog.format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where c.oid = relation
);
comment on function campfire.qualified_name(regclass) is
  'Schema and name of a relation, quoted for SQL whatever search_path is.';

create function campfire.replica_identity_columns(relation regclass) returns name[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select case c.relreplident
    when 'f' then (
      select pg_catalog.array_agg(a.attname order by a.attnum)
      from pg_catalog.pg_attribute as a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
    when 'n' then null
    else (
      select pg_catalog.array_agg(a.attname order by a.attnum)
      from pg_catalog.pg_index as i
      join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = any (i.indkey::int2[])
      where i.indrelid = c.oid and i.indislive and i.indisvalid and i.indimmediate
        and case c.relreplident when 'd' then i.indisprimary else i.indisreplident end)
    end
  from pg_catalog.pg_class as c where c.oid = relation
);
comment on function campfire.replica_identity_columns(regclass) is
  'Columns by which a deleted row is known to subscribers; null if the table has no replica identity.';

create function campfire.suggested_identity(relation regclass) returns text
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
    select i.indisprimary, c.relname into candidate
    from pg_index as i join pg_class as c on c.oid = i.indexrelid
    where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
      and array(select a.attname from pg_attribute as a where a.attrelid = relation and a.attnum = any (i.indkey::int2[]) order by 1)
        = array(select k from unnest(standard.identity_columns) as k order by 1)
    order by c.relname <> standard.table_name || '_replica_identity', c.relname limit 1;
    added := standard.table_name || '_replica_identity';
    -- The name may be that of an index of the table that was here before.
    while candidate.relname is null and to_regclass(format('%I.%I', (
        select n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation), added)) is not null loop
      added := added || '_2';
    end loop;
    return concat_ws(' ',
      (select format('alter table %s %s;', qualified, string_agg(format('alter column %I set not null', a.attname), ', ' order by a.attnum))
       from pg_attribute as a
       where a.attrelid = relation and a.attname = any (standard.identity_columns) and not a.attnotnull having count(*) > 0),
      case when coalesce(candidate.relname, added) = added then format('create unique index if not exists %I on %s (%s);', added, qualified, (
        select string_agg(quote_ident(c), ', ') from unnest(standard.identity_columns) as c)) end,
      format('alter table %s replica identity using index %I;', qualified, coalesce(candidate.relname, added)));
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
  if standard.listed then
    return format('alter table %s add primary key (%s);', qualified,
      case standard.table_name when 'agents' then 'organization_id, user_id' else 'id' end);
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

-- Rows of a partitioned table are logged by the partition that holds them, each by its own replica identity; Postgres
-- never passes the table's on to its partitions.

create function campfire.logged_columns(relation regclass) returns name[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.array_agg(k.name order by k.n)
  from pg_catalog.unnest(campfire.replica_identity_columns(relation)) with ordinality as k (name, n)
  where not exists (
    select from pg_catalog.pg_partition_tree(relation) as p
    where p.isleaf and p.relid <> relation
      and coalesce(k.name <> all (campfire.replica_identity_columns(p.relid)), true))
);
comment on function campfire.logged_columns(regclass) is
  'Internal. Columns that are known of an old row wherever it is stored: those of the replica identity of the table and of each of its partitions.';

create function campfire.partition_identity_fix(root regclass, leaf regclass) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  qualified constant text := campfire.qualified_name(leaf);
  class constant pg_class := (select c from pg_class as c where c.oid = root);
  wanted constant name[] := campfire.replica_identity_columns(root);
  own record;
begin
  if wanted is null or (select c.relreplident = 'f' from pg_class as c where c.oid = leaf)
    or class.relreplident <> 'f' and campfire.replica_identity_columns(leaf) @> wanted then
    return null;
  elsif class.relreplident = 'f' then
    return format('alter table %s replica identity full;', qualified);
  end if;
  select i.indisprimary, i.indexrelid into own
  from pg_index as i
  join pg_index as r on r.indexrelid in (select a.relid from pg_partition_ancestors(i.indexrelid) as a)
  where i.indrelid = leaf and r.indrelid = root
    and case class.relreplident when 'd' then r.indisprimary else r.indisreplident end;
  if not found then
    return campfire.suggested_identity(leaf);
  end if;
  return format('alter table %s replica identity %s;', qualified, case when own.indisprimary then 'default'
    else format('using index %I', (select c.relname from pg_class as c where c.oid = own.indexrelid)) end);
end
$$;
comment on function campfire.partition_identity_fix(regclass, regclass) is
  'Internal. SQL that gives a partition the replica identity of its partitioned table; null if it logs as much already.';

create function campfire.align_partitions(root regclass, but oid[] default '{}') returns integer
language plpgsql strict set search_path = pg_catalog, pg_temp as $$
declare
  leaf record;
  aligned integer := 0;
begin
  for leaf in
    select p.relid, campfire.partition_identity_fix(root, p.relid) as fix
    from pg_partition_tree(root) as p join pg_class as c on c.oid = p.relid
    -- One that somebody has set to nothing, or beside a column list to full, stays for check_publication() to name.
    where p.isleaf and p.relid <> root and c.relkind = 'r' and c.relreplident in ('d', 'i') and p.relid <> all (but)
    order by p.relid
  loop
    if leaf.fix is not null then
      execute leaf.fix;
      aligned := aligned + 1;
      raise notice '%: replica identity as that of %', campfire.qualified_name(leaf.relid), campfire.qualified_name(root);
    end if;
  end loop;
  return aligned;
end
$$;
comment on function campfire.align_partitions(regclass, oid[]) is
  'Gives each partition of a table, but those named, the table''s replica identity, which Postgres does not pass on; returns how many had another. '
  'publish() and the guard call it. Example: select campfire.align_partitions(''orders'');';

create function campfire.column_list(publication name, relation regclass) returns name[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.array_agg(a.attname order by a.attnum)
  from pg_catalog.pg_publication as p
  join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid
  join pg_catalog.pg_attribute as a on a.attrelid = r.prrelid and a.attnum = any (r.prattrs::int2[])
  where p.pubname = publication and r.prrelid = relation
);
comment on function campfire.column_list(name, regclass) is
  'Column list with which a publication carries a table; null if it carries all columns, or does not carry the table.';

create function campfire.filter_columns(publication name, relation regclass) returns name[]
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

create function campfire.standard_tables(publication name, control boolean)
returns table (qualified text, relation regclass, columns name[], listed boolean, published name[])
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  select
    pg_catalog.format('%I.%I', i.schema_name, b.table_name),
    c.oid::regclass,
    b.columns,
    b.listed,
    -- Empty if the publication does not carry the table.
    case when r.oid is null then '{}' else array(
      select k.column_name from campfire.publishable_columns(c.oid) as k
      where r.prattrs is null or k.column_name = any (campfire.column_list(publication, c.oid))) end
  from campfire.installations as i
  cross join campfire.builtin_tables as b
  left join pg_catalog.pg_namespace as n on n.nspname = i.schema_name
  left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = b.table_name and c.relkind in ('r', 'p')
  left join pg_catalog.pg_publication as p on p.pubname = publication
  left join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = c.oid
  where b.control = standard_tables.control
  order by i.number, b.table_name;
end;
comment on function campfire.standard_tables(name, boolean) is
  'Internal. What a standard publication (or its control twin) must carry for every installation, and what it carries.';

create function campfire.wal_level_problem() returns table (problem text, fix text)
language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select pg_catalog.format('wal_level is %s, so the relay cannot read any publication', s.setting),
    'alter system set wal_level = logical; -- then restart the server'::text
  from pg_catalog.pg_settings as s where s.name = 'wal_level' and s.setting <> 'logical';
end;
comment on function campfire.wal_level_problem() is
  'Internal. A row if the server writes too little into the WAL for the relay, with the setting that mends it.';

-- Making them -----------------------------------------------------------------------------------------------------

create function campfire.publish(publication name, relation regclass, columns name[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  qualified constant text := campfire.qualified_name(relation);
  target pg_publication;
  source pg_class;
  present pg_publication_rel;
  identity_columns name[];
  wanted name[] := columns; -- null: every column, without a list
  -- Who publishes a projected table beside its mirror, and routes both, sends each change twice.
  mirror constant text := (
    select campfire.qualified_name(p.mirror)
    from campfire.projections as p join pg_class as c on c.oid = p.source
    -- That of install() is published beside its mirror, and routed only from there.
    where p.source = relation and c.relname <> 'conversations');
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
      hint = case when mirror is not null then format('select campfire.publish(%L, %L);', publication, mirror)
        else campfire.suggested_identity(relation) end;
  end if;
  if source.relkind = 'p' then
    perform campfire.align_partitions(relation);
  end if;

  if source.relreplident = 'f' and current_setting('server_version_num')::int >= 180000 and exists (
      select from pg_attribute as a
      where a.attrelid = relation and not a.attisdropped and a.attgenerated <> case when campfire.publishes_generated(publication) then 's' else '' end
        and a.attgenerated <> '') then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('%s has replica identity full and generated columns', qualified),
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
        when mirror is not null then format('select campfire.publish(%L, %L);', publication, mirror)
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
        when mirror is not null then format('select campfire.publish(%L, %L);', publication, mirror)
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

create function campfire.publish_without(publication name, relation regclass, columns name[]) returns void
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

create function campfire.unpublish(publication name, relation regclass) returns void
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

create function campfire.create_publication(publication name default 'campfire', tables regclass[] default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  control constant text := publication::text || '_control';
  said constant text := current_setting('client_min_messages');
  made record;
  wanted record;
  listed regclass;
  reason text;
  remedy text;
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
      -- Postgres's own warning of wal_level speaks of subscriptions; ours comes at the end.
      perform set_config('client_min_messages', 'error', true);
      execute format('create publication %I with (publish_via_partition_root = true)', made.name);
      perform set_config('client_min_messages', said, true);
    end if;
    insert into campfire.managed_publications as m (name, control_of, standard)
    values (made.name, made.control_of, made.control_of is not null or tables is null)
    on conflict (name) do update set standard = m.standard or excluded.standard;

    for wanted in
      select * from campfire.standard_tables(made.name, made.control_of is not null) as t
      where (tables is null or made.control_of is not null) and t.relation is not null and not t.published @> t.columns
    loop
      -- What the DBA added to a list stays in it. One installation that is damaged does not keep others from it.
      begin
        perform campfire.publish(made.name, wanted.relation,
          case when wanted.listed then array(
            select c.column_name from campfire.publishable_columns(wanted.relation) as c
            where c.column_name = any (wanted.columns || wanted.published)) end);
      exception when feature_not_supported or object_not_in_prerequisite_state then
        get stacked diagnostics reason = message_text, remedy = pg_exception_hint;
        raise warning using
          errcode = 'object_not_in_prerequisite_state',
          message = format('%s was left out of publication "%s": %s', wanted.qualified, made.name, reason),
          hint = remedy;
      end;
    end loop;
  end loop;

  foreach listed in array coalesce(tables, '{}') loop
    if not exists (
        select from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid
        where p.pubname = publication and r.prrelid = listed) then
      perform campfire.publish(publication, listed);
    end if;
  end loop;
  for reason, remedy in select w.problem, w.fix from campfire.wal_level_problem() as w loop
    raise warning using errcode = 'object_not_in_prerequisite_state', message = reason, hint = remedy;
  end loop;
end
$$;
comment on function campfire.create_publication(name, regclass[]) is
  'Makes the publication the relay reads, and its twin <name>_control for agents and read receipts; repeated, adds what is missing. '
  'Without tables: the standard ones of every installation, with a WARNING for one that cannot be published. Superuser. Raises 42501, '
  '22023 for a name that is too long, 42710 if a publication of that name is not campfire''s, and for tables named here what '
  'campfire.publish() raises. A WARNING if the server''s wal_level keeps the relay from reading. Example: select campfire.create_publication();';

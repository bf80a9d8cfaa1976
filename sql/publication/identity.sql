-- Replica identities: by what a changed or deleted row is known to subscribers.

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

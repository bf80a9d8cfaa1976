-- Whether a publication carries what it must, and nothing it must not: for the relay, the guard and people alike.

create function campfire.check_publication(publication name)
returns table (relation regclass, column_name name, type_name text, problem text, fix text)
-- Joins over the catalog look expensive to the planner: compiling them takes a second, running them milliseconds.
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
      format('the replica identity of %s must %s: deleted and moved rows could not be routed', t.qualified,
        case when b.listed then format('cover (%s)', array_to_string(b.identity_columns, ', ')) else 'be full' end),
      campfire.suggested_identity(t.relation)
    from campfire.standard_tables(publication, control) as t
    join pg_class as c on c.oid = t.relation
    join campfire.builtin_tables as b on b.table_name = c.relname
    where campfire.replica_identity_columns(t.relation) is not null
      and case when b.listed then not campfire.replica_identity_columns(t.relation) @> b.identity_columns
          else c.relreplident <> 'f' end
    union all
    select t.relation, null, null,
      format('a row filter hides rows of %s from publication "%s"', t.qualified, publication),
      format('alter publication %1$I drop table only %2$s; select campfire.create_publication(%3$L);', publication, t.qualified, rows_name)
    from campfire.standard_tables(publication, control) as t
    join pg_publication_rel as r on r.prpubid = target.oid and r.prrelid = t.relation
    where r.prqual is not null;
  end if;

  return query
  with carried as (
    select r.prrelid::regclass as relation, campfire.qualified_name(r.prrelid) as qualified,
      campfire.column_list(publication, r.prrelid) as list,
      campfire.replica_identity_columns(r.prrelid) as identity_columns,
      c.relreplident = 'f' as is_full
    from pg_publication_rel as r join pg_class as c on c.oid = r.prrelid
    where r.prpubid = target.oid
  ), judged as (
    select t.*, k.column_name, k.type_name, k.reason,
      -- Without a list generated columns stay at home.
      not k.publishable and case when t.list is null then k.reason like 'type %' else k.column_name = any (t.list) end as is_wrong
    from carried as t cross join lateral campfire.publishable_columns(t.relation) as k
  )
  select j.relation, j.column_name, j.type_name,
    format('column %s.%I is published, but cannot be: %s', j.qualified, j.column_name, j.reason),
    case
      when j.is_full or j.column_name = any (j.identity_columns)
        then campfire.suggested_identity(j.relation) || format(' select campfire.publish(%L, %L);', publication, j.qualified)
      else format('select campfire.publish(%L, %L, %L);', publication, j.qualified, (
        select array_agg(k.column_name) from campfire.publishable_columns(j.relation) as k
        where k.publishable and (j.list is null or k.column_name = any (j.list || j.identity_columns)))::text)
    end
  from judged as j where j.is_wrong
  union all
  select t.relation, null, null,
    format('%s has no replica identity: its rows cannot be updated or deleted', t.qualified),
    campfire.suggested_identity(t.relation)
  from carried as t where t.identity_columns is null
  union all
  select t.relation, null, null,
    format('the column list of %s does not cover its replica identity: its rows cannot be updated or deleted', t.qualified),
    case
      when t.is_full and exists (select from judged as j where j.relation = t.relation and j.reason like 'type %')
        then campfire.suggested_identity(t.relation)
      when t.is_full then format('select campfire.publish(%L, %L);', publication, t.qualified)
      else format('select campfire.publish(%L, %L, %L);', publication, t.qualified, (
        select array_agg(k.column_name) from campfire.publishable_columns(t.relation) as k
        where k.column_name = any (t.list || t.identity_columns))::text)
    end
  from carried as t
  where t.list is not null and not t.list @> t.identity_columns
  order by 1, 2;
end
$$;
comment on function campfire.check_publication(name) is
  'What is wrong with a publication, and SQL that mends it; no rows: nothing. Asks also whether the standard tables and columns are '
  'all there. Example: select * from campfire.check_publication(''campfire'') union all select * from campfire.check_publication(''campfire_control'');';

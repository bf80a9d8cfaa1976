-- What may become of the tables of one installation, or of a table that is routed: never a reason for the relay to
-- stop, but told, with SQL that mends it.

create function campfire.standard_column_type(column_name name) returns text
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
return case
  when column_name = 'id' or column_name like '%\_id' then 'uuid'
  when column_name like '%\_at' then 'timestamp with time zone'
  when column_name = 'active' then 'boolean'
  else 'text' end;
comment on function campfire.standard_column_type(name) is
  'Internal. Type of a column of the standard tables that is published.';

create function campfire.moved_table(publication name, schema_name name, table_name name, control boolean) returns regclass
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  -- Published, with all the columns, and no installation''s: one only, or nobody can tell.
  select case when pg_catalog.count(*) = 1 then pg_catalog.min(c.oid::bigint)::oid::regclass end
  from pg_catalog.pg_publication as p
  join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid
  join pg_catalog.pg_class as c on c.oid = r.prrelid
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  join campfire.builtin_tables as b on b.table_name = moved_table.table_name and b.control = moved_table.control
  where p.pubname = publication
    and (n.nspname = moved_table.schema_name or c.relname = b.table_name)
    and not exists (select from campfire.builtin_table(c.oid::regclass))
    and not exists (select from campfire.user_routes as u where u.relation = c.oid::regclass)
    and b.columns <@ array(select k.column_name from campfire.publishable_columns(c.oid::regclass) as k)
    and (b.listed or not exists (
      select from pg_catalog.pg_attribute as a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attname <> all (b.columns)))
);
comment on function campfire.moved_table(name, name, name, boolean) is
  'Internal. The published table that was a standard table of an installation before it got another name or schema; null if there is none, or several.';

create function campfire.hidden_from_relay(relation regclass) returns table (problem text, fix text)
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  with policies as (
    -- The relay has the rights of the application's roles as well, and so their policies too.
    select p.polname, p.polpermissive, pg_catalog.pg_get_expr(p.polqual, p.polrelid) as condition
    from pg_catalog.pg_policy as p
    where p.polrelid = relation and p.polcmd in ('r', '*')
      and exists (select from pg_catalog.unnest(p.polroles) as o (id)
                  where o.id = 0 or pg_catalog.pg_has_role('campfire_relay', o.id, 'usage'))
  )
  select pg_catalog.format('no policy shows role "campfire_relay" all rows of %s', campfire.qualified_name(relation)),
    pg_catalog.format('create policy %I on %s for select to campfire_relay using (true);',
      campfire.name_around('', c.relname::text, '_relay_select'), campfire.qualified_name(relation))
  from pg_catalog.pg_class as c
  where c.oid = relation and not exists (select from policies as p where p.polpermissive and p.condition = 'true')
  union all
  select pg_catalog.format('policy %I is restrictive and hides rows of %s from role "campfire_relay"', p.polname, campfire.qualified_name(relation)),
    pg_catalog.format('alter policy %I on %s using (pg_has_role(current_user, ''campfire_relay'', ''usage'') or (%s));',
      p.polname, campfire.qualified_name(relation), p.condition)
  from policies as p
  where not p.polpermissive and p.condition !~ 'campfire_relay';
end;
comment on function campfire.hidden_from_relay(regclass) is
  'Internal. Policies by which the relay would not see all rows of a table with row-level security, with SQL that mends it.';

create function campfire.installation_problems(publication name, control boolean, rows_name name)
returns table (relation regclass, column_name name, type_name text, problem text, fix text)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  again constant text := format('select campfire.create_publication(%L);', rows_name);
begin
  -- Gone whole.
  return query
  select null::regclass, null::name, null::text,
    format('no table of the installation in schema "%s" exists any more', i.schema_name),
    format('select campfire.uninstall(%L);', i.schema_name)
  from campfire.installations as i
  where not exists (
    select from campfire.builtin_tables as b where to_regclass(format('%I.%I', i.schema_name, b.table_name)) is not null)
    and not exists (
      select from campfire.builtin_tables as b
      where campfire.moved_table(case when b.control then rows_name || '_control' else rows_name end::name,
        i.schema_name, b.table_name, b.control) is not null)
  order by i.number;

  -- One table of it gone, moved, replaced, or not published.
  return query
  select coalesce(t.relation, t.moved), null::name, null::text,
    case
      when t.relation is null and t.moved is null then format('table %s does not exist', t.qualified)
      when t.relation is null then format('table %s does not exist; it is %s now', t.qualified, campfire.qualified_name(t.moved))
      when t.moved is not null then format('table %s is another one than the one that is published, which is %s now',
        t.qualified, campfire.qualified_name(t.moved))
      else format('table %s is not in publication "%s"', t.qualified, publication) end,
    case
      when t.relation is null and t.moved is null
        then format('select campfire.uninstall(%L); -- or restore %s from a backup', t.schema_name, t.qualified)
      when t.relation is null then concat_ws(' ',
        case when t.moved_schema <> t.schema_name then format('alter table %s set schema %I;', campfire.qualified_name(t.moved), t.schema_name) end,
        case when t.moved_name <> t.table_name then format('alter table %I.%I rename to %I;', t.schema_name, t.moved_name, t.table_name) end)
      when t.moved is not null then format('select campfire.replace_table(%L, %L);', campfire.qualified_name(t.moved), t.qualified)
      else concat_ws(' ', t.identity, again) end
  from (
    select s.*, b.table_name, parts.names[1]::name as schema_name, m.moved, n.nspname as moved_schema, c.relname as moved_name,
      case when s.relation is not null and (
          campfire.replica_identity_columns(s.relation) is null
          or not b.listed and (select k.relreplident <> 'f' from pg_class as k where k.oid = s.relation)
          or not coalesce(campfire.replica_identity_columns(s.relation) @> b.identity_columns, true)
          or b.listed and (select k.relreplident = 'f' from pg_class as k where k.oid = s.relation))
        then campfire.suggested_identity(s.relation) end as identity
    from campfire.standard_tables(publication, control) as s
    cross join lateral (select parse_ident(s.qualified) as names) as parts
    join campfire.builtin_tables as b on b.table_name = parts.names[2]
    cross join lateral (
      select case when s.published = '{}' then campfire.moved_table(publication, parts.names[1]::name, b.table_name, control) end as moved
    ) as m
    left join pg_class as c on c.oid = m.moved
    left join pg_namespace as n on n.oid = c.relnamespace
  ) as t
  where t.published = '{}' and (t.relation is not null or t.moved is not null or exists (
    select from campfire.builtin_tables as b where to_regclass(format('%I.%I', t.schema_name, b.table_name)) is not null))
  order by t.qualified;

  -- Columns gone, renamed or not published.
  return query
  select t.relation, c.name, k.type_name,
    case when k.column_name is null then format('column %s.%I does not exist', t.qualified, c.name)
         else format('column %s.%I is not in publication "%s"', t.qualified, c.name, publication) end,
    case
      when k.column_name is not null then again
      when renamed.name is not null then format('alter table %s rename column %I to %I;', t.qualified, renamed.name, c.name)
      else format('alter table %s add column %I %s; %s -- or restore it from a backup', t.qualified, c.name,
        campfire.standard_column_type(c.name), again) end
  from campfire.standard_tables(publication, control) as t
  cross join unnest(t.columns) as c (name)
  left join campfire.publishable_columns(t.relation) as k on k.column_name = c.name
  left join lateral (
    -- The only published column that should not be there, where only one is missing that should.
    select min(p.column_name::text) as name
    from campfire.publishable_columns(t.relation) as p
    where p.column_name = any (t.published) and p.column_name <> all (t.columns)
      and p.type_name = campfire.standard_column_type(c.name)
      and (select count(*) from unnest(t.columns) as w (name) where w.name <> all (
        array(select o.column_name from campfire.publishable_columns(t.relation) as o))) = 1
    having count(*) = 1
  ) as renamed on true
  where t.relation is not null and c.name <> all (t.published)
    -- Of a table that is not carried at all, only what create_publication() will miss.
    and (t.published <> '{}' or k.column_name is null)
  order by t.qualified, array_position(t.columns, c.name);

  return query
  select t.relation, null::name, null::text,
    format('a row filter hides rows of %s from publication "%s"', t.qualified, publication),
    format('alter publication %1$I drop table only %2$s; %3$s', publication, t.qualified, again)
  from campfire.standard_tables(publication, control) as t
  join pg_publication as p on p.pubname = publication
  join pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = t.relation
  where r.prqual is not null
  order by t.qualified;

  -- Agents that the relay is not shown are nobody's agents, and no error says so.
  return query
  select t.relation, null::name, null::text, h.problem, h.fix
  from campfire.standard_tables(publication, control) as t
  join pg_class as c on c.oid = t.relation
  cross join lateral (
    select format('role "campfire_relay" may not read %s', t.qualified) as problem,
      format('grant usage on schema %s to campfire_relay; grant select (%s) on %s to campfire_relay;', c.relnamespace::regnamespace,
        (select string_agg(quote_ident(k), ', ') from unnest(t.columns) as k), t.qualified) as fix
    where not has_schema_privilege('campfire_relay', c.relnamespace, 'usage')
      or exists (select from pg_attribute as a where a.attrelid = c.oid and a.attname = any (t.columns)
                   and not has_column_privilege('campfire_relay', c.oid, a.attnum, 'select'))
    union all
    select * from campfire.hidden_from_relay(c.oid::regclass) where c.relrowsecurity
  ) as h
  where control and c.relname = 'agents'
  order by t.qualified, h.problem;
end
$$;
comment on function campfire.installation_problems(name, boolean, name) is
  'Internal. What is wrong with the tables of installations, as campfire.check_publication() tells it.';

create function campfire.replaced_tables() returns table (relation regclass, column_name name, type_name text, problem text, fix text)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
begin
  -- Routes follow their table when it is renamed; then another got its name, as tools for online schema changes do.
  return query
  select u.relation, null::name, null::text,
    format('routes of %s are those of %s, which is another table now', u.known_as, campfire.qualified_name(u.relation)),
    format('select campfire.replace_table(%L, %L); -- or, if they belong there: select campfire.enable_route(%s);',
      campfire.qualified_name(u.relation), u.known_as, min(u.id))
  from campfire.user_routes as u
  join pg_class as c on c.oid = u.relation
  join pg_class as other on other.oid = to_regclass(u.known_as) and other.relkind in ('r', 'p')
  where other.oid <> u.relation
  group by u.relation, u.known_as
  order by u.known_as;

  -- A mirror is named after its table.
  return query
  select p.source, null::name, null::text,
    format('the projection of %s is that of %s, which is another table now', campfire.qualified_name(other.oid::regclass), campfire.qualified_name(p.source)),
    format('select campfire.replace_table(%L, %L);', campfire.qualified_name(p.source), campfire.qualified_name(other.oid::regclass))
  from campfire.projections as p
  join pg_class as m on m.oid = p.mirror
  join pg_class as s on s.oid = p.source
  join pg_class as other on other.oid <> s.oid and other.relnamespace = m.relnamespace and other.relkind in ('r', 'p')
    and campfire.name_around('realtime_', other.relname, '') = m.relname
  where s.relnamespace <> m.relnamespace or campfire.name_around('realtime_', s.relname, '') <> m.relname
  order by 4;
end
$$;
comment on function campfire.replaced_tables() is
  'Internal. Tables that were replaced by another of their name, while routes and projections stayed with the one of before.';

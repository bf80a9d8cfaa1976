-- What a projection is made of: names, types, and the query whose rows the mirror should hold.

-- Names ------------------------------------------------------------------------------------------------------------

create function campfire.name_around(prefix text, source text, suffix text) returns name
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

-- What a projection is made of --------------------------------------------------------------------------------------

create function campfire.projected_type(type regtype) returns regtype
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

create function campfire.type_without_length(type regtype) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
-- Not null for the length: then any char(n) is called "character", which read again is character(1).
return pg_catalog.format_type(type, -1);
comment on function campfire.type_without_length(regtype) is
  'Internal. A type as SQL reads it for values of any length or precision.';

create function campfire.type_modifier(type regtype, modifier integer) returns integer
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  base regtype := type;
  found integer := modifier;
begin
  while found = -1 and (select t.typtype = 'd' from pg_type as t where t.oid = base) loop
    select t.typtypmod, t.typbasetype into found, base from pg_type as t where t.oid = base;
  end loop;
  return found;
end
$$;
comment on function campfire.type_modifier(regtype, integer) is
  'Internal. Length or precision of a column''s values as Postgres stores it, also where a domain sets it; -1 if there is none.';

create function campfire.default_projection(source regclass) returns text[]
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select coalesce(pg_catalog.array_agg(a.attname::text order by a.attnum), '{}')
  from pg_catalog.pg_attribute as a
  where a.attrelid = source and a.attnum > 0 and not a.attisdropped and a.attgenerated in ('', 's')
    and campfire.projected_type(a.atttypid::regtype) is not null
);
comment on function campfire.default_projection(regclass) is
  'The columns that campfire.create_projection() takes if none are named. Example: select campfire.default_projection(''conversations'');';

create function campfire.only_of(relation regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  -- Partitions belong to their table; children by inheritance do not, and no trigger of it sees them.
  select case when c.relkind = 'p' then '' else 'only ' end || campfire.qualified_name(relation)
  from pg_catalog.pg_class as c where c.oid = relation
);
comment on function campfire.only_of(regclass) is
  'Internal. A table as FROM names it: with ONLY, unless it is partitioned.';

create function campfire.projection_query(source regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.format('select %s from %s', (
      select pg_catalog.string_agg(pg_catalog.format('(%s)::%s as %I', u.definition, campfire.type_without_length(a.atttypid), u.name), ', ' order by u.n)
      from rows from (pg_catalog.unnest(p.columns), pg_catalog.unnest(p.definitions)) with ordinality as u (name, definition, n)
      join pg_catalog.pg_attribute as a on a.attrelid = p.mirror and a.attname = u.name),
    campfire.only_of(source))
  from campfire.projections as p where p.source = projection_query.source
);
comment on function campfire.projection_query(regclass) is
  'Internal. The query whose rows the mirror should hold; null for a table without projection.';

create function campfire.require_projection(source regclass) returns campfire.projections
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

create function campfire.projection_column_list(columns name[], prefix text) returns text
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.string_agg(prefix || pg_catalog.quote_ident(u.c), ', ' order by u.n)
  from pg_catalog.unnest(columns) with ordinality as u (c, n)
);
comment on function campfire.projection_column_list(name[], text) is 'Internal. Column names, quoted, each behind a prefix.';

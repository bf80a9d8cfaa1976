-- Gates of routes: which columns they may compare. extension/src/gate.rs reads them.

comment on function campfire.gate_problem(text, text[], oid[]) is
  'Internal. What is wrong with a gate on columns of these names and base types, and where; null if nothing is.';
comment on function campfire.gate_columns(text, text[], oid[]) is
  'Internal. The columns of these that a gate reads; null if it is no gate.';

create function campfire.read_gate(relation regclass, gate text, out problem text, out columns name[])
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  with recursive based (attnum, attname, attcollation, oid) as (
    select a.attnum, a.attname, a.attcollation, a.atttypid
    from pg_catalog.pg_attribute as a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    union all
    select b.attnum, b.attname, b.attcollation, t.typbasetype
    from based as b join pg_catalog.pg_type as t on t.oid = b.oid where t.typtype = 'd'
  ), known (names, types) as (
    select pg_catalog.array_agg(b.attname::text order by b.attnum),
      -- Texts that are equal by a collation are equal to no gate, which compares bytes.
      pg_catalog.array_agg(case when c.collisdeterministic = false then 0 else b.oid end order by b.attnum)
    from based as b
    join pg_catalog.pg_type as t on t.oid = b.oid and t.typtype <> 'd'
    left join pg_catalog.pg_collation as c on c.oid = b.attcollation
  )
  select campfire.gate_problem(gate, k.names, k.types), campfire.gate_columns(gate, k.names, k.types)::name[]
  from known as k;
end;
comment on function campfire.read_gate(regclass, text) is
  'Internal. What is wrong with a gate on the rows of a table, null if nothing is, and the columns that it reads.';

create function campfire.require_gate(relation regclass, channel text, public boolean, gate text) returns name[]
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  problem text;
  compared name[];
begin
  if gate is null then
    return '{}';
  end if;
  if public or channel ~ '^(bcast:)?org:' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" can have no gate', left(channel, 200)),
      detail = case when public then 'Members of a public channel need not say who they are.'
        else 'Which members of an organization''s channel get what is part of the channel.' end,
      hint = 'A gate is for a private channel of your own, such as shop:{shop_id}.';
  end if;
  select g.problem, g.columns into problem, compared from campfire.read_gate(relation, gate) as g;
  if problem is not null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('malformed gate: %s', problem),
      detail = left(gate, 500),
      hint = 'A gate compares columns, claims and literals, such as: seller_id = claims.sub or claims.role = ''service_role''.';
  end if;
  return compared;
end
$$;
comment on function campfire.require_gate(regclass, text, boolean, text) is
  'Internal. The columns that a gate reads, none if there is no gate. Raises 22023 for a gate that is malformed, or on a channel that can '
  'have none.';

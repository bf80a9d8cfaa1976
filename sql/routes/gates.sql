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

create function campfire.require_gate(
  relation regclass, operation text, channel text, on_move boolean, public boolean, gate text, carrier name, carried name[]) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  qualified constant text := campfire.qualified_name(relation);
  problem text;
  compared name[];
  missing name;
begin
  if gate is null then
    return;
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
  foreach missing in array compared loop
    if missing <> all (carried) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('column %s.%I is not published', qualified, missing),
        hint = format('select campfire.publish(%L, %L, %L);', carrier, qualified, (
          select array_agg(c.column_name) from campfire.publishable_columns(relation) as c
          where c.column_name = any (carried || missing))::text);
    end if;
    -- Of an update the row before decides, too.
    if (operation <> 'INSERT' or on_move) and missing <> all (coalesce(campfire.logged_columns(relation), '{}')) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('column %s.%I is not in the replica identity%s', qualified, missing,
          case when missing = any (campfire.replica_identity_columns(relation)) then ' of every partition' end),
        detail = 'The gate must know the row before its change, of which the WAL holds only the replica identity.',
        hint = case when missing = any (campfire.replica_identity_columns(relation))
          then format('select campfire.align_partitions(%L);', qualified)
          else 'Compare only columns of the replica identity, or route from a mirror that has replica identity full.' end;
    end if;
  end loop;
end
$$;
comment on function campfire.require_gate(regclass, text, text, boolean, boolean, text, name, name[]) is
  'Internal. Raises 22023 for a gate that is none, or on a channel that can have none, 55000 for one that reads a column that is not '
  'published, or whose old values the WAL does not hold.';

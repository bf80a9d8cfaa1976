-- A table takes another's place: what publications, routes and projections know of the old one, they know of the new.
-- For tools that change a table by making another and giving it the name.

create function campfire.give_identity(old regclass, new regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  kind constant "char" := (select c.relreplident from pg_class as c where c.oid = old);
  columns constant name[] := campfire.replica_identity_columns(old);
  index name;
begin
  if exists (select from campfire.builtin_table(new)) then
    execute campfire.suggested_identity(new);
  elsif kind = 'f' then
    execute format('alter table %s replica identity full', campfire.qualified_name(new));
  else
    select c.relname into index
    from pg_index as i join pg_class as c on c.oid = i.indexrelid
    where i.indrelid = new and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
      and array(select a.attname from pg_attribute as a where a.attrelid = new and a.attnum = any (i.indkey::int2[]) order by 1)
        = array(select k from unnest(columns) as k order by 1)
      and not exists (select from pg_attribute as a where a.attrelid = new and a.attnum = any (i.indkey::int2[]) and not a.attnotnull)
    order by i.indisprimary desc limit 1;
    if found then
      execute format('alter table %s replica identity using index %I', campfire.qualified_name(new), index);
    elsif campfire.replica_identity_columns(new) is null then
      execute campfire.suggested_identity(new);
    end if;
  end if;
end
$$;
comment on function campfire.give_identity(regclass, regclass) is
  'Internal. Gives a table the replica identity of another, or the one it needs as a standard table.';

create function campfire.give_rights(old regclass, new regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  old_name constant text := campfire.qualified_name(old);
  new_name constant text := campfire.qualified_name(new);
  made record;
begin
  for made in
    select format('grant %s%s on %s to %s', g.privilege_type, ' (' || quote_ident(g.column_name) || ')', new_name,
      case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end) as command
    from (
      select x.privilege_type, null::name as column_name, x.grantee
      from pg_class as c cross join lateral aclexplode(c.relacl) as x where c.oid = old and x.grantee <> c.relowner
      union all
      select x.privilege_type, a.attname, x.grantee
      from pg_attribute as a cross join lateral aclexplode(a.attacl) as x
      where a.attrelid = old and not a.attisdropped
        and exists (select from pg_attribute as n where n.attrelid = new and n.attname = a.attname and not n.attisdropped)
    ) as g
    union all
    select format('alter table %s enable row level security', new_name) from pg_class as c where c.oid = old and c.relrowsecurity
    union all
    select format('create policy %I on %s as %s for %s to %s%s%s', p.polname, new_name,
      case when p.polpermissive then 'permissive' else 'restrictive' end,
      case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
      (select string_agg(case r when 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ') from unnest(p.polroles) as r),
      ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
    from pg_policy as p
    where p.polrelid = old and not exists (select from pg_policy as n where n.polrelid = new and n.polname = p.polname)
    union all
    select replace(pg_get_triggerdef(t.oid), ' ON ' || old_name || ' ', ' ON ' || new_name || ' ')
    from pg_trigger as t join pg_proc as f on f.oid = t.tgfoid
    where t.tgrelid = old and not t.tgisinternal and f.pronamespace = 'campfire'::regnamespace
      and f.proname <> 'sync_realtime_conversations'
      and not exists (select from pg_trigger as n where n.tgrelid = new and n.tgname = t.tgname)
    union all
    select format('alter table %s add constraint %I %s', new_name, k.conname, pg_get_constraintdef(k.oid))
    from pg_constraint as k
    where k.contype = 'f' and k.conrelid = old and not exists (
      select from pg_constraint as n where n.contype = 'f' and n.conrelid = new and n.confrelid = k.confrelid)
  loop
    execute made.command;
  end loop;
  -- Policies name a table by its oid, also in a cast to regclass.
  for made in
    select format('alter policy %I on %s%s%s', p.polname, campfire.qualified_name(p.polrelid),
      ' using (' || replace(pg_get_expr(p.polqual, p.polrelid), quote_literal(old_name) || '::regclass', quote_literal(new_name) || '::regclass') || ')',
      ' with check (' || replace(pg_get_expr(p.polwithcheck, p.polrelid), quote_literal(old_name) || '::regclass', quote_literal(new_name) || '::regclass') || ')'
      ) as command
    from pg_policy as p
    where p.polrelid <> old and concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
      like '%' || replace(quote_literal(old_name), '_', '\_') || '::regclass%'
  loop
    execute made.command;
  end loop;
  -- What refers to the old table shall refer to the new.
  for made in
    select k.conname, campfire.qualified_name(k.conrelid::regclass) as referring,
      replace(pg_get_constraintdef(k.oid), 'REFERENCES ' || old_name || '(', 'REFERENCES ' || new_name || '(') as definition
    from pg_constraint as k where k.contype = 'f' and k.confrelid = old and k.conparentid = 0
  loop
    execute format('alter table %s drop constraint %I', made.referring, made.conname);
    execute format('alter table %s add constraint %I %s', made.referring, made.conname, made.definition);
  end loop;
end
$$;
comment on function campfire.give_rights(regclass, regclass) is
  'Internal. Gives a standard table what CREATE TABLE ... LIKE leaves out: grants, policies (its own, and those of other tables that name '
  'it), foreign keys from it and to it, and campfire''s triggers.';

create function campfire.replace_table(old regclass, new regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_variable
declare
  new_name constant text := campfire.qualified_name(new);
  standard constant name[] := (select b.columns from campfire.builtin_table(new) as b);
  carrier record;
  projection campfire.projection_registry;
  stale record;
begin
  perform campfire.require_superuser('campfire.replace_table()');
  if old is null or new is null or old = new then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'replace_table() needs two tables: the old one, and the one that takes its place';
  end if;
  if standard is not null then
    perform campfire.give_rights(old, new);
  end if;

  for carrier in
    select p.pubname, r.prqual is not null as has_filter, campfire.column_list(p.pubname, old) as list,
      pg_get_expr(r.prqual, r.prrelid) as filter
    from campfire.managed_publications as m
    join pg_publication as p on p.pubname = m.name
    join pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = old
    order by p.pubname
  loop
    perform campfire.give_identity(old, new);
    perform campfire.unpublish(carrier.pubname, old);
    perform campfire.publish(carrier.pubname, new, case
      when carrier.list is not null and (select c.relreplident <> 'f' from pg_class as c where c.oid = new) then array(
        select c.column_name from campfire.publishable_columns(new) as c
        where c.publishable and c.column_name = any (carrier.list || standard || campfire.replica_identity_columns(new))) end);
    if carrier.has_filter and standard is null then
      execute format('alter publication %1$I drop table only %2$s; alter publication %1$I add table only %2$s%3$s where (%4$s)',
        carrier.pubname, new_name, ' (' || (
          select string_agg(quote_ident(c), ', ') from unnest(campfire.column_list(carrier.pubname, new)) as c) || ')', carrier.filter);
    end if;
  end loop;

  select * into projection from campfire.projection_registry as p where p.source = old;
  if found then
    for stale in
      select t.tgname, t.tgrelid::regclass as relation from pg_trigger as t
      where t.tgfoid = 'campfire.sync_realtime_conversations()'::regprocedure and t.tgparentid = 0
        and (t.tgrelid in (old, new) or t.tgrelid in (select relid from pg_partition_tree(old)))
    loop
      execute format('drop trigger %I on %s', stale.tgname, campfire.qualified_name(stale.relation));
    end loop;
    delete from campfire.projection_registry as p where p.source = old;
    update campfire.projection_backfills as b set source = new where b.source = old;
    perform campfire.attach_projection(new, projection.mirror, projection.key_columns, projection.columns, projection.definitions);
    update campfire.projection_registry as p set dropped_partitions = projection.dropped_partitions where p.source = new;
    raise notice '%: what was written since it was replaced may be missing in the mirror; next: call campfire.repair_projection(%);',
      new_name, quote_literal(new_name);
  end if;
  update campfire.projection_registry as p set mirror = new where p.mirror = old;

  delete from campfire.user_routes as u
  where u.relation = old and exists (
    select from campfire.user_routes as k where (k.relation, k.operation, k.channel, k.event) = (new, u.operation, u.channel, u.event));
  update campfire.user_routes as u set relation = new, known_as = new_name where u.relation = old;
end
$$;
comment on function campfire.replace_table(regclass, regclass) is
  'Puts a table in the place of another in campfire''s publications, routes and projections, with the replica identity it needs; a '
  'standard table gets its policies, grants, triggers and foreign keys as well. For tools that change a table by making a new one and '
  'swapping the names. Superuser. Raises 42501, 22023, and the errors of campfire.publish(). Example: select '
  'campfire.replace_table(''orders_old'', ''orders'');';

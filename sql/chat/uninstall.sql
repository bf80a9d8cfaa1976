-- campfire.uninstall(): an installation is forgotten, and its tables stay.

create function campfire.uninstall(schema name default 'public') returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  left_over record;
begin
  perform campfire.require_superuser('campfire.uninstall()');
  perform campfire.lock_routes();
  if not exists (select from campfire.installations as i where i.schema_name = schema) then
    raise exception using
      errcode = 'undefined_object',
      message = format('campfire is not installed in schema "%s"', schema),
      hint = 'select schema_name from campfire.installations;';
  end if;

  -- Out of the publications, unless routes of the application go on from there.
  for left_over in
    select m.name as publication, r.prrelid::regclass as relation
    from campfire.builtin_tables as b
    join pg_class as c on c.relname = b.table_name and c.relnamespace = to_regnamespace(quote_ident(schema))
    join pg_publication_rel as r on r.prrelid = c.oid
    join pg_publication as p on p.oid = r.prpubid
    join campfire.managed_publications as m on m.name = p.pubname
    where not exists (select from campfire.user_routes as u where u.relation = c.oid)
    order by b.table_name
  loop
    perform campfire.unpublish(left_over.publication, left_over.relation);
  end loop;
  for left_over in
    select t.tgname, t.tgrelid::regclass as relation
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    join pg_proc as f on f.oid = t.tgfoid
    where c.relnamespace = to_regnamespace(quote_ident(schema)) and c.relname in (select b.table_name from campfire.builtin_tables as b)
      and t.tgparentid = 0 and not t.tgisinternal and f.pronamespace = 'campfire'::regnamespace
      -- A projection that the application made of another table is its own.
      and (c.relname = 'conversations' or f.proname <> 'sync_realtime_conversations')
  loop
    execute format('drop trigger %I on %s', left_over.tgname, campfire.qualified_name(left_over.relation));
  end loop;
  delete from campfire.projection_registry as p
  where not exists (select from pg_class as c where c.oid = p.source)
    or p.source = to_regclass(format('%I.conversations', schema));
  delete from campfire.projection_backfills as b
  where not exists (select from campfire.projection_registry as p where p.source = b.source);
  delete from campfire.projection_remains as r where r.source = format('%I.conversations', schema);
  delete from campfire.route_overrides as o where o.schema_name = schema;
  -- Last, because the relay hears of it: the built-in routes of these tables end here.
  delete from campfire.installations as i where i.schema_name = schema;
end
$$;
comment on function campfire.uninstall(name) is
  'Forgets an installation: takes its tables out of the publications, and removes campfire''s triggers from them. The tables stay, with '
  'their rows, policies and grants: drop the schema, or keep them as your own. Superuser. Raises 42501, 42704 if campfire is not '
  'installed there. Example: select campfire.uninstall(''chat'');';

-- Who may join and send on private channels outside org: where schema realtime is not installed: policies on a table of
-- the form of realtime.messages.
--
-- An ordinary table, as those are: a dump leaves out the policies on members of an extension. Therefore the script of the
-- extension cannot make it either, since a dump brings it.

create function campfire.topic() returns text language sql stable parallel safe
return nullif(pg_catalog.current_setting('realtime.topic', true), '');
comment on function campfire.topic() is
  'The private channel for which a policy is evaluated, without realtime:. The same as realtime.topic(). Example: create policy staff on '
  'campfire.private_channels for select to authenticated using (campfire.topic() = ''shop:7'');';

create function campfire.keep_private_channels_empty() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using
    errcode = 'feature_not_supported',
    message = 'campfire.private_channels holds no rows, only policies',
    hint = 'To send to private channels from SQL: select campfire.install_supabase_api(); then realtime.send().';
end
$$;
comment on function campfire.keep_private_channels_empty() is
  'Internal trigger, at the end of the transaction: raises 0A000. The relay, which inserts rows to try the policies, always rolls back.';

create function campfire.install_private_channels() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_superuser('campfire.install_private_channels()');
  -- Two at once: the second waits here and then finds what the first made.
  perform campfire.lock_routes();
  if to_regclass('campfire.private_channels') is null then
    create table campfire.private_channels (
      id uuid primary key default gen_random_uuid(),
      topic text not null,
      extension text not null,
      event text,
      payload jsonb,
      binary_payload bytea,
      private boolean default false,
      inserted_at timestamp not null default (now() at time zone 'utc'),
      updated_at timestamp not null default (now() at time zone 'utc')
    );
    create constraint trigger keep_private_channels_empty after insert on campfire.private_channels
      deferrable initially deferred for each row execute function campfire.keep_private_channels_empty();
  end if;
  alter table campfire.private_channels enable row level security;
  alter table campfire.private_channels owner to current_user;
  revoke all on table campfire.private_channels from public, anon, authenticated, service_role, campfire_relay;
  grant select, insert on table campfire.private_channels to anon, authenticated, service_role;
  comment on table campfire.private_channels is
    'Policies on this table decide who may join and send on private channels outside org:, unless campfire.install_supabase_api() was '
    'called: then those on realtime.messages do. It has the same columns and never holds rows. Made by add_route() and '
    'campfire.install_private_channels().';
end
$$;
comment on function campfire.install_private_channels() is
  'Makes the table campfire.private_channels, whose policies decide who may join and send on private channels outside org:. add_route() '
  'calls it for a private route, unless schema realtime is installed. Run again, it keeps the policies. Superuser. Raises 42501, 55P03 if '
  'another transaction that changes routes does not end. Example: select campfire.install_private_channels(); create policy sellers on '
  'campfire.private_channels for select to authenticated using (campfire.topic() = ''shop:'' || campfire.claim(''shop_id''));';

create function campfire.policies_table() returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not campfire.has_supabase_api() then
    return 'campfire.private_channels';
  end if;
  perform campfire.require_supabase_api();
  return 'realtime.messages';
end
$$;
comment on function campfire.policies_table() is
  'The table whose policies decide about private channels outside org:: realtime.messages if campfire.install_supabase_api() was called, '
  'else campfire.private_channels. Raises 55000 if schema realtime is damaged. Example: select campfire.policies_table();';

create function campfire.private_channels_probe(topic text, extensions text[]) returns table (extension text, id uuid)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  problem text;
begin
  problem := case
    when to_regclass('campfire.private_channels') is null then 'campfire.private_channels is missing'
    -- The owner's triggers and policies would run with the rights of this function.
    when not exists (select from pg_class as c join pg_roles as r on r.oid = c.relowner and r.rolsuper
        where c.oid = to_regclass('campfire.private_channels')) then 'campfire.private_channels belongs to a role that is no superuser'
    when not exists (select from pg_policy as p where p.polrelid = to_regclass('campfire.private_channels'))
      then 'campfire.private_channels has no policies' end;
  if problem is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = problem || ', so nobody may join a private channel',
      hint = 'select campfire.install_private_channels(); create policy members on campfire.private_channels for select to authenticated '
        'using (campfire.topic() = ''shop:'' || campfire.claim(''shop_id''));';
  end if;
  return query
    insert into campfire.private_channels as c (topic, extension)
    select private_channels_probe.topic, e from unnest(extensions) as e
    returning c.extension, c.id;
end
$$;
comment on function campfire.private_channels_probe(text, text[]) is
  'For the relay: as campfire.realtime_probe(text, text[]), with rows in campfire.private_channels. Raises 55000 if there are no policies '
  'on it. Example: select * from campfire.private_channels_probe(''room:7'', ''{broadcast,presence}'');';

-- Schema realtime: what applications written for Supabase Realtime call and put policies on.
--
-- Ordinary objects, as the chat tables are: they dump and restore with the policies of the application, and DROP
-- EXTENSION leaves them. A row reaches the relay as a signed logical message which a trigger writes, not by a
-- publication: jsonb and bytea are not scalar, a scalar copy would double every row, and partitions that come and go
-- every day would change a publication every day.

insert into campfire.setting_defaults (name, value, description) values
  ('realtime_retention_hours', '72', 'How long rows of realtime.messages are kept, in hours; they go by whole days.');

create function campfire.broadcast_realtime_message() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  bytes_max constant bigint := campfire.setting('broadcast_bytes_max');
  body text;
begin
  if (campfire.parse_channel(new.topic)).scope <> 'other' then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('"%s" is a channel of an organization', left(new.topic, 200)),
      detail = 'Access to it is decided by the claims of each client, not by policies on realtime.messages.',
      hint = format('select campfire.broadcast(%L, ''my_event'', ''{}'');', left(new.topic, 200));
  end if;
  if octet_length(new.event) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('the name of the event has %s bytes, more than 255', octet_length(new.event)),
      hint = 'Every member of the channel gets the name; put what is longer into the payload.';
  end if;
  perform campfire.refuse_routed_event(new.topic, new.event);
  -- Binary wins, as in the reference.
  body := case when new.binary_payload is null
    then jsonb_build_object('id', new.id, 'topic', new.topic, 'event', new.event, 'private', new.private, 'payload', new.payload)
    else jsonb_build_object('id', new.id, 'topic', new.topic, 'event', new.event, 'private', new.private,
      'binary', translate(encode(new.binary_payload, 'base64'), e'\n', ''))
    end::text;
  if octet_length(body) > bytes_max then
    raise exception using
      errcode = 'program_limit_exceeded',
      message = format('the message has %s bytes, more than %s', octet_length(body), bytes_max),
      hint = format('update campfire.settings set value = %L where name = ''broadcast_bytes_max'';', octet_length(body)::text);
  end if;
  perform campfire.emit('campfire.realtime', body);
  if not new.private then
    perform campfire.warn_of_denied_public_channels(new.topic);
  end if;
  return null;
end
$$;
comment on function campfire.broadcast_realtime_message() is
  'Trigger after insert on realtime.messages, for each row: writes the message into the WAL, signed. Raises 42501 for a channel of an '
  'organization and for an event that a route sends to this channel, 22023 for a malformed channel and for an event name of more than 255 bytes, 54000 above the setting broadcast_bytes_max.';

create function campfire.warn_of_unsent(state text, message text, detail text, hint text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  -- The reference does the same: what cannot be sent must not undo what the application has written.
  if hint = '' then
    raise warning 'WarnSendingBroadcastMessage: %', message using errcode = state;
  elsif detail = '' then
    raise warning 'WarnSendingBroadcastMessage: %', message using errcode = state, hint = hint;
  else
    raise warning 'WarnSendingBroadcastMessage: %', message using errcode = state, detail = detail, hint = hint;
  end if;
end
$$;
comment on function campfire.warn_of_unsent(text, text, text, text) is 'Internal. What realtime.send() and its kin raise instead of an error.';

-- By what only a superuser could have made: comments and the owner of the schema are for people to change, and a restore
-- may leave them out. The first is the rule, the others are for what a part of a dump, or a DROP, has left.
create function campfire.has_supabase_api() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (
  select from pg_catalog.pg_namespace as n
  where n.nspname = 'realtime' and (
    exists (
      select from pg_catalog.pg_trigger as t join pg_catalog.pg_class as c on c.oid = t.tgrelid
      where c.relnamespace = n.oid and c.relname = 'messages'
        and t.tgfoid = 'campfire.broadcast_realtime_message()'::regprocedure)
    or exists (
      select from pg_catalog.pg_proc as p join pg_catalog.pg_roles as r on r.oid = p.proowner and r.rolsuper
      where p.pronamespace = n.oid and p.proname in ('insert_message', 'probe') and not exists (
        select from pg_catalog.pg_class as c join pg_catalog.pg_roles as o on o.oid = c.relowner
        where c.relnamespace = n.oid and c.relname = 'messages' and not o.rolsuper))
    or exists (
      select from pg_catalog.pg_roles as r
      where r.oid = n.nspowner and r.rolsuper and pg_catalog.obj_description(n.oid, 'pg_namespace') like 'campfire: %'))
);
comment on function campfire.has_supabase_api() is
  'Whether schema realtime exists and is campfire''s: realtime.messages has campfire''s trigger, or the schema holds other objects that '
  'only a superuser could have made. campfire.check_supabase_api() says whether it works. Example: select campfire.has_supabase_api();';

create function campfire.install_supabase_api() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $install$
declare
  made record;
begin
  perform campfire.require_superuser('campfire.install_supabase_api()');
  if to_regnamespace('realtime') is not null and not campfire.has_supabase_api() then
    raise exception using
      errcode = 'duplicate_schema',
      message = 'schema "realtime" already exists and is not campfire''s',
      detail = 'Nothing in it was touched. campfire''s has a table messages with campfire''s trigger.',
      hint = 'alter schema realtime rename to realtime_before_campfire; select campfire.install_supabase_api();';
  end if;
  -- Two at once: the second waits here and then finds what the first made.
  perform campfire.lock_routes();

  if to_regnamespace('realtime') is null then
    create schema realtime;
  end if;
  comment on schema realtime is 'campfire: what applications of Supabase Realtime expect. Made by campfire.install_supabase_api().';
  -- To everybody: who may not send gets a warning, and keeps what the statement has written.
  grant usage on schema realtime to public, anon, authenticated, service_role, campfire_relay, campfire_sender;

  if to_regclass('realtime.messages') is null then
    create table realtime.messages (
      id uuid not null default gen_random_uuid(),
      topic text not null,
      extension text not null,
      event text,
      payload jsonb,
      binary_payload bytea,
      private boolean default false,
      inserted_at timestamp not null default (now() at time zone 'utc'),
      updated_at timestamp not null default (now() at time zone 'utc'),
      primary key (id, inserted_at),
      constraint messages_one_payload check (payload is null or binary_payload is null)
    ) partition by range (inserted_at);
    create index messages_by_topic on realtime.messages (topic, inserted_at desc) where extension = 'broadcast' and private;
    comment on index realtime.messages_by_topic is 'campfire: finds the history of a channel.';
    alter table realtime.messages enable row level security;
    create policy messages_service on realtime.messages to service_role using (true);
    comment on policy messages_service on realtime.messages is 'campfire: server code, on all channels.';
    create policy messages_senders on realtime.messages for insert to campfire_sender with check (true);
    comment on policy messages_senders on realtime.messages is 'campfire: roles of the application that send, on all channels.';
  end if;
  comment on table realtime.messages is
    'campfire: messages of SQL for channels outside org:, one partition a day. Policies on this table decide who may join and send on private channels.';
  comment on column realtime.messages.id is 'Id of the message; what clients see as meta.id.';
  comment on column realtime.messages.topic is 'The channel, as clients name it. Policies compare realtime.topic().';
  comment on column realtime.messages.extension is 'broadcast or presence: what a policy is asked about.';
  comment on column realtime.messages.event is 'Name of the event; a row without one is not sent.';
  comment on column realtime.messages.payload is 'What clients receive.';
  comment on column realtime.messages.binary_payload is 'The payload as bytes, for clients of serialization 2.0.0.';
  comment on column realtime.messages.private is 'Whether it goes to the private channel of that name or to the public one.';
  comment on column realtime.messages.inserted_at is 'When it was sent, in UTC; decides the partition.';
  comment on column realtime.messages.updated_at is 'The same as inserted_at, for applications that read it.';
  if not exists (select from pg_trigger as t where t.tgrelid = 'realtime.messages'::regclass and t.tgname = 'broadcast_realtime_message_trigger') then
    create trigger broadcast_realtime_message_trigger
      after insert on realtime.messages
      for each row when (new.event is not null and new.private is not null and (new.payload is not null or new.binary_payload is not null))
      execute function campfire.broadcast_realtime_message();
  end if;
  alter table realtime.messages enable trigger broadcast_realtime_message_trigger;
  comment on trigger broadcast_realtime_message_trigger on realtime.messages is 'campfire: sends the row when its transaction commits.';
  perform campfire.install_supabase_topic();
  revoke all on table realtime.messages from public, anon, authenticated, service_role, campfire_relay, campfire_sender;
  grant insert (id, topic, extension, event, payload, binary_payload, private) on table realtime.messages to campfire_sender;
  grant select, insert, update on table realtime.messages to anon, authenticated, service_role;

  create or replace function realtime.topic() returns text language sql stable
  return nullif(pg_catalog.current_setting('realtime.topic', true), '');
  comment on function realtime.topic() is
    'The channel for which a policy on realtime.messages is evaluated, without realtime:. Example: create policy members on '
    'realtime.messages for select to authenticated using (realtime.topic() = ''room:7'');';

  perform campfire.install_supabase_partitions();

  create or replace function realtime.probe(topic text, extensions text[]) returns table (extension text, id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
  begin
    if not realtime.takes_today() then
      perform realtime.make_partitions();
    end if;
    return query
      insert into realtime.messages as m (topic, extension)
      select probe.topic, e from unnest(extensions) as e
      returning m.extension, m.id;
  exception when check_violation then
    perform realtime.require_today();
    raise;
  end
  $$;
  comment on function realtime.probe(text, text[]) is 'Internal. Inserts as the owner of realtime.messages; see campfire.realtime_probe(text, text[]).';

  create or replace function realtime.history(topic text, since timestamptz, rows_max integer)
  returns table (id uuid, event text, payload text, binary_payload bytea)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
  declare
    knows_commits constant boolean := current_setting('track_commit_timestamp')::boolean;
  begin
    return query
      select newest.id, newest.event, newest.payload, newest.binary_payload
      from (
        select m.id, m.event, m.payload::text, m.binary_payload, m.inserted_at,
          case when knows_commits then pg_xact_commit_timestamp(m.xmin) at time zone 'utc' end as committed_at
        from realtime.messages as m
        where m.topic = history.topic and m.extension = 'broadcast' and m.private
          and m.inserted_at >= history.since at time zone 'utc'
          and m.inserted_at < now() at time zone 'utc' + interval '1 minute'
          and m.event is not null and (m.payload is not null or m.binary_payload is not null)
        order by m.inserted_at desc, m.id desc
        limit rows_max
      ) as newest
      order by coalesce(newest.committed_at, newest.inserted_at), newest.inserted_at, newest.id;
  end
  $$;
  comment on function realtime.history(text, timestamptz, integer) is
    'Internal. Reads as the owner of realtime.messages; see campfire.realtime_history(text, timestamptz, integer).';

  create or replace function realtime.insert_message(id uuid, payload jsonb, binary_payload bytea, event text, topic text, private boolean) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
  declare
    said_detail text;
    said_hint text;
  begin
    if not has_column_privilege('realtime.messages', 'topic', 'insert') then
      raise exception using
        errcode = 'insufficient_privilege',
        message = format('role "%s" may not send', current_user),
        hint = format('grant campfire_sender to %I;', current_user);
    end if;
    perform set_config('realtime.topic', insert_message.topic, true);
    if not realtime.takes_today() then
      perform realtime.make_partitions();
    end if;
    begin
      insert into realtime.messages (id, payload, binary_payload, event, topic, private, extension)
      values (insert_message.id, insert_message.payload, insert_message.binary_payload, insert_message.event,
        insert_message.topic, insert_message.private, 'broadcast');
    exception when check_violation then
      perform realtime.require_today();
      raise;
    end;
  exception when others then
    get stacked diagnostics said_detail = pg_exception_detail, said_hint = pg_exception_hint;
    perform campfire.warn_of_unsent(sqlstate, sqlerrm, said_detail, said_hint);
  end
  $$;
  comment on function realtime.insert_message(uuid, jsonb, bytea, text, text, boolean) is
    'Internal. What realtime.send() and realtime.send_binary() share.';

  create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
  declare
    id constant uuid := gen_random_uuid();
  begin
    if jsonb_typeof(payload) <> 'object' then
      raise warning 'WarnSendingBroadcastMessage: the payload is not a JSON object' using errcode = 'invalid_parameter_value';
      return;
    end if;
    perform realtime.insert_message(id, case when payload ? 'id' then payload else payload || jsonb_build_object('id', id) end,
      null, event, topic, private);
  end
  $$;
  comment on function realtime.send(jsonb, text, text, boolean) is
    'Sends an event to the subscribers of a channel when the transaction commits, with the caller''s rights on realtime.messages. A '
    'payload without an "id" gets one. A failure is a WARNING, and undoes nothing. A role of the application needs: grant '
    'campfire_sender to app; Example: select realtime.send(''{"n": 1}'', ''ping'', ''room:7'');';

  create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
  language sql set search_path = pg_catalog, pg_temp
  begin atomic
    select realtime.insert_message(gen_random_uuid(), null, send_binary.payload, send_binary.event, send_binary.topic, send_binary.private);
  end;
  comment on function realtime.send_binary(bytea, text, text, boolean) is
    'As realtime.send(), with a payload of bytes, for clients of serialization 2.0.0. Example: select realtime.send_binary(''\x0102'', '
    '''frame'', ''room:7'');';

  create or replace function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text default 'ROW') returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
  declare
    said_detail text;
    said_hint text;
  begin
    if level = 'STATEMENT' then
      raise exception using
        errcode = 'feature_not_supported',
        message = 'broadcast_changes() is for triggers for each row',
        hint = 'Create the trigger with: for each row.';
    end if;
    if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('broadcast_changes() knows no operation "%s"', operation),
        hint = 'Pass tg_op of a trigger after insert, update or delete.';
    end if;
    perform realtime.send(
      jsonb_build_object(
        'schema', table_schema, 'table', table_name, 'operation', operation,
        'record', case when operation <> 'DELETE' then to_jsonb(new) end,
        'old_record', case when operation <> 'INSERT' then to_jsonb(old) end),
      event_name, topic_name);
  exception when others then
    get stacked diagnostics said_detail = pg_exception_detail, said_hint = pg_exception_hint;
    perform campfire.warn_of_unsent(sqlstate, sqlerrm, said_detail, said_hint);
  end
  $$;
  comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
    'For triggers: sends the row before and after to a private channel. A failure is a WARNING, and never ends the statement that fired '
    'the trigger; so is an operation that there is none, or the level STATEMENT. The trigger function runs as the role that writes, unless '
    'it is SECURITY DEFINER: then it is enough to grant campfire_sender to its owner. Example: create function order_changed() returns '
    'trigger language plpgsql security definer set search_path = '''' as $f$ begin perform realtime.broadcast_changes(''shop:'' || '
    'coalesce(new.shop_id, old.shop_id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old); return null; end $f$; create trigger '
    'order_changed after insert or update or delete on orders for each row execute function order_changed();';

  revoke all on all functions in schema realtime from public, anon, authenticated, service_role, campfire_relay, campfire_sender;
  grant execute on function
    realtime.insert_message(uuid, jsonb, bytea, text, text, boolean),
    realtime.send(jsonb, text, text, boolean), realtime.send_binary(bytea, text, text, boolean),
    realtime.broadcast_changes(text, text, text, text, text, record, record, text)
  to public;
  grant execute on function
    realtime.topic(), realtime.partition_name(date), realtime.partition_of(timestamp), realtime.takes_today(),
    realtime.partition_problems(), realtime.require_today(), realtime.make_partitions()
  to anon, authenticated, service_role, campfire_sender;
  grant execute on function realtime.partition_name(date), realtime.partition_of(timestamp), realtime.takes_today(),
    realtime.partition_problems(), realtime.require_today(), realtime.maintain(), realtime.probe(text, text[]),
    realtime.history(text, timestamptz, integer)
  to campfire_relay;

  -- Also where a role that is no superuser had them: see campfire.supabase_api_damage().
  if (select not r.rolsuper from pg_class as c join pg_roles as r on r.oid = c.relowner where c.oid = 'realtime.messages'::regclass) then
    alter table realtime.messages owner to current_user;
  end if;
  for made in select p.oid::regprocedure as signature from pg_proc as p join pg_roles as r on r.oid = p.proowner and not r.rolsuper
    where p.pronamespace = 'realtime'::regnamespace and p.proname = any (campfire.supabase_api_functions())
  loop
    execute format('alter function %s owner to current_user', made.signature);
  end loop;

  perform realtime.maintain();
  raise notice using
    message = 'schema realtime is ready; next: policies on realtime.messages',
    hint = 'Roles of the application that send, such as the owner of a trigger function, need: grant campfire_sender to app; '
      '\df+ realtime.broadcast_changes has an example.';
end
$install$;
comment on function campfire.install_supabase_api() is
  'Makes schema realtime, for applications of Supabase Realtime: messages, topic(), send(), send_binary(), broadcast_changes(). These are '
  'ordinary objects. Run again, it updates the functions and keeps rows and policies. Superuser. Raises 42501, 42P06 if another schema '
  'realtime exists. Example: select campfire.install_supabase_api();';

create function campfire.remove_supabase_api() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made record;
begin
  perform campfire.require_superuser('campfire.remove_supabase_api()');
  if to_regnamespace('realtime') is null then
    raise notice 'there is no schema realtime';
    return;
  end if;
  if not campfire.has_supabase_api() then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'schema "realtime" is not campfire''s',
      hint = 'Remove it in the way it was made. Nothing was changed.';
  end if;
  -- Never CASCADE: what the application built on it names itself in the error.
  drop table if exists realtime.messages;
  for made in
    select p.oid::regprocedure as signature from pg_proc as p
    where p.pronamespace = 'realtime'::regnamespace and p.proname = any (campfire.supabase_api_functions())
    order by array_position(campfire.supabase_api_functions(), p.proname)
  loop
    execute format('drop function %s', made.signature);
  end loop;
  drop schema realtime;
end
$$;
comment on function campfire.remove_supabase_api() is
  'Removes what campfire.install_supabase_api() made, with the messages and the policies on them. Superuser. Raises 42501, 55000 if '
  'schema realtime is not campfire''s, 2BP01 if an object of the application is in it or depends on it. Example: select '
  'campfire.remove_supabase_api();';

-- campfire.broadcast(): an event written into the WAL, so that it is sent if the transaction commits and only then.

insert into campfire.setting_defaults (name, value, description) values
  ('broadcast_bytes_max', '3072000', 'How long the payload of campfire.broadcast() may be, as text in bytes.'),
  ('broadcast_organization_bytes_max', '65536', 'The same on channels of an organization.');

comment on function campfire.is_reserved_event(text) is
  'Internal. Whether an event name, in any spelling that clients treat as equal, stands for a committed change, so that no sender may use '
  'it.';

create function campfire.public_channels_denied() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((
  select bool_and(s.public_channels is false) from campfire.slots as s
  join pg_catalog.pg_replication_slots as r on r.slot_name = s.slot_name and r.database = pg_catalog.current_database()), false);
comment on function campfire.public_channels_denied() is
  'Internal. Whether every relay of this database has reported that it lets nobody join public channels outside org:. False if none has '
  'reported.';

create function campfire.warn_of_denied_public_channels(channel text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if campfire.public_channels_denied() then
    raise warning using
      errcode = '01000',
      message = format('nobody can receive this: "%s" is a public channel, and public channels are denied', left(channel, 200)),
      detail = 'Every relay of this database runs with CAMPFIRE_PUBLIC_CHANNELS=deny, so clients cannot join it.',
      hint = format('Send to the private channel: select realtime.send(''{}'', ''my_event'', %L, true); or start the relay with CAMPFIRE_PUBLIC_CHANNELS=allow.', left(channel, 200));
  end if;
end
$$;
comment on function campfire.warn_of_denied_public_channels(text) is
  'Internal. Warns the sender if an event for the public channel of this name can reach nobody.';

create function campfire.broadcast(channel text, event text, payload jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  canonical constant text := regexp_replace(channel, '^bcast:', '');
  scope text;
  bytes_max bigint;
begin
  if channel is null or event is null or payload is null then
    raise exception using
      errcode = 'null_value_not_allowed',
      message = 'broadcast() needs a channel, an event and a payload';
  end if;
  if canonical !~ '^[^[:cntrl:]]+$' or octet_length(canonical) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('malformed channel "%s"', left(channel, 200)),
      hint = 'A channel is 1 to 255 bytes long, without control characters.';
  end if;
  scope := (campfire.parse_channel(channel)).scope;
  if event !~ '^[^[:cntrl:]]+$' or octet_length(event) > 255 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" cannot be the name of an event', left(event, 200)),
      hint = 'A name is 1 to 255 bytes long, without control characters.';
  end if;
  if scope <> 'other' and campfire.is_reserved_event(event) then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('event "%s" is reserved on channels of an organization', event),
      detail = 'Names that begin with message:, conversation:, read:, agent: or campfire:, in any letter case, are for committed changes alone.',
      hint = 'Choose another name.';
  end if;
  perform campfire.refuse_routed_event(canonical, event);
  bytes_max := campfire.setting(case when scope = 'other' then 'broadcast_bytes_max' else 'broadcast_organization_bytes_max' end);
  if octet_length(payload::text) > bytes_max then
    raise exception using
      errcode = 'program_limit_exceeded',
      message = format('the payload has %s bytes, more than %s', octet_length(payload::text), bytes_max),
      hint = format('Send a reference to it, or: update campfire.settings set value = %L where name = %L;', octet_length(payload::text)::text,
        case when scope = 'other' then 'broadcast_bytes_max' else 'broadcast_organization_bytes_max' end);
  end if;
  perform campfire.emit('campfire.broadcast', format(e'%s\n%s\n%s', canonical, event, payload));
  if scope = 'other' then
    perform campfire.warn_of_denied_public_channels(canonical);
  end if;
end
$$;
comment on function campfire.broadcast(text, text, jsonb) is
  'Sends an event to the subscribers of a channel if and when the transaction commits. EXECUTE for service_role and campfire_sender. Raises 22023 for a '
  'malformed channel or event, 42501 for an event that is reserved on channels of an organization or that a route sends to this channel, 54000 for a payload above the settings '
  'broadcast_bytes_max and broadcast_organization_bytes_max, 22004 for null. Outside org:, the event goes to the public channel of that '
  'name; a WARNING says so if the relay denies public channels. Example: select campfire.broadcast(''news'', ''published'', ''{"id": '
  '7}'');';

-- What a route sends, nobody else may: a subscriber takes such an event for a committed row.

comment on function campfire.folded_event(text) is
  'Internal. The name of an event with all taken away that clients ignore: equal for names that they take for one.';

create function campfire.routed_event(channel text, event text) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
return (
  select min(u.id)
  from campfire.user_routes as u
  where u.enabled
    and campfire.folded_event(u.event) = campfire.folded_event(routed_event.event)
    -- A column stands for any text.
    and pg_catalog.regexp_replace(routed_event.channel, '^bcast:', '') like pg_catalog.regexp_replace(
      pg_catalog.regexp_replace(pg_catalog.regexp_replace(u.channel, '^bcast:', ''), '([\\%_])', '\\\1', 'g'), '\{[^{}]*\}', '%', 'g')
    -- org:{a} makes no channel of a conversation.
    and (campfire.parse_channel(routed_event.channel)).scope = (campfire.parse_channel(
      pg_catalog.regexp_replace(u.channel, '\{[^{}]*\}', '00000000-0000-0000-0000-000000000000', 'g'))).scope
);
comment on function campfire.routed_event(text, text) is
  'Internal. The id of a route of users that sends events of this name, in any spelling that clients treat as equal, to this channel; null '
  'if there is none.';

create function campfire.refuse_routed_event(channel text, event text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  route constant bigint := campfire.routed_event(channel, event);
begin
  if route is not null then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('event "%s" is reserved on "%s"', left(event, 200), left(channel, 200)),
      detail = format('Route %s sends it for committed rows alone.', route),
      hint = 'Choose another name.';
  end if;
end
$$;
comment on function campfire.refuse_routed_event(text, text) is
  'Internal. Raises 42501 for an event that a route of users sends to this channel.';

-- The grammar of channels.

create function campfire.channel_organization(organization uuid) returns text
language sql immutable strict parallel safe
return 'org:' || organization::text;
comment on function campfire.channel_organization(uuid) is
  'Channel of an organization: org:ORG. Example: select campfire.channel_organization(gen_random_uuid());';

create function campfire.channel_conversation(organization uuid, conversation uuid) returns text
language sql immutable strict parallel safe
return 'org:' || organization::text || ':conv:' || conversation::text;
comment on function campfire.channel_conversation(uuid, uuid) is
  'Channel of one conversation: org:ORG:conv:CONV.';

create function campfire.channel_conversations(organization uuid) returns text
language sql immutable strict parallel safe
return 'org:' || organization::text || ':conversations';
comment on function campfire.channel_conversations(uuid) is
  'Channel of all conversations of an organization: org:ORG:conversations.';

create function campfire.channel_widget(organization uuid, conversation uuid) returns text
language sql immutable strict parallel safe
return 'org:' || organization::text || ':widget:' || conversation::text;
comment on function campfire.channel_widget(uuid, uuid) is
  'Channel of the widget in one conversation: org:ORG:widget:CONV.';

create function campfire.parse_channel(channel text, out scope text, out organization_id uuid, out conversation_id uuid)
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  uuid_pattern constant text := '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
  canonical constant text := regexp_replace(channel, '^bcast:', '');
  parts text[];
begin
  if canonical !~* '^org(:|$)' then
    scope := 'other';
    return;
  end if;
  parts := regexp_match(canonical, format('^org:(%1$s)(?::(?:(conversations)|(conv|widget):(%1$s)))?$', uuid_pattern));
  if parts is null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('malformed channel "%s"', left(channel, 200)),
      hint = 'Channels of an organization are org:ORG, org:ORG:conversations, org:ORG:conv:CONV and org:ORG:widget:CONV, with lower-case uuids.';
  end if;
  scope := coalesce(parts[2], parts[3], 'org');
  organization_id := parts[1]::uuid;
  conversation_id := parts[4]::uuid;
end
$$;
comment on function campfire.parse_channel(text) is
  'Takes a channel apart: scope is org, conversations, conv, widget or, for channels that are not campfire''s, other. '
  'bcast: in front is dropped once. Raises 22023 for org followed by a malformed uuid or an unknown scope.';

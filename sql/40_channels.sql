-- The grammar of channels, and the built-in routes from rows to channels.

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

-- Routes --------------------------------------------------------------------------------------------------------
-- Built-in routes belong to the extension, their switches to the database: only switches are dumped.

create table campfire.builtin_routes (
  key smallint primary key check (key between 1 and 999),
  table_name name not null,
  operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE')),
  on_move boolean not null check (not on_move or operation <> 'UPDATE'),
  channel text not null,
  event text not null,
  columns name[] not null check (cardinality(columns) > 0),
  when_changed name[] check (when_changed is null or operation = 'UPDATE'),
  enabled boolean not null
);
comment on table campfire.builtin_routes is 'Internal. The standard routes, once for all installations. Read campfire.routes instead.';

create table campfire.route_overrides (
  schema_name name,
  key smallint,
  enabled boolean not null,
  primary key (schema_name, key)
);
comment on table campfire.route_overrides is 'Built-in routes switched on or off in this database, by installation; dumped.';
comment on column campfire.route_overrides.schema_name is 'Schema of the installation.';
comment on column campfire.route_overrides.key is 'Key of the route in campfire.builtin_routes.';
comment on column campfire.route_overrides.enabled is 'Whether the route is on.';
select pg_extension_config_dump('campfire.route_overrides', '');

create view campfire.routes as
select
  -- Negative, so that routes of users can count from 1; never the same for two installations; in the order of keys.
  r.key - 1000 * i.number::bigint as id,
  i.schema_name,
  r.table_name,
  r.operation,
  r.on_move,
  r.channel,
  r.event,
  r.columns,
  r.when_changed,
  coalesce(o.enabled, r.enabled) as enabled,
  true as builtin
from campfire.installations as i
cross join campfire.builtin_routes as r
left join campfire.route_overrides as o on o.schema_name = i.schema_name and o.key = r.key;
comment on view campfire.routes is 'Which row change becomes which event on which channel. The relay routes by this view.';
comment on column campfire.routes.id is 'Stable id. Of two routes that put one change on one channel the lower id wins. Built-in ones are negative.';
comment on column campfire.routes.schema_name is 'Schema of the table.';
comment on column campfire.routes.table_name is 'Table whose rows are routed.';
comment on column campfire.routes.operation is 'INSERT, UPDATE or DELETE. An UPDATE route fires while the channel stays the same.';
comment on column campfire.routes.on_move is 'Whether it also fires when an update changes the channel: DELETE for the old row, INSERT for the new.';
comment on column campfire.routes.channel is 'Channel, with {column} for a value of the row.';
comment on column campfire.routes.event is 'Name of the event.';
comment on column campfire.routes.columns is 'Columns of the payload, in this order.';
comment on column campfire.routes.when_changed is 'Fires only if one of these columns changed; null: always.';
comment on column campfire.routes.enabled is 'Whether the route is on.';
comment on column campfire.routes.builtin is 'Whether it came with campfire.';

with
  message(n, channel, columns) as (values
    (1, 'org:{organization_id}:conversations', '{id,conversation_id,organization_id,content,sender_type,sender_name,sender_email,created_at}'::name[]),
    (2, 'org:{organization_id}:conv:{conversation_id}', '{id,conversation_id,organization_id,content,sender_type,sender_name,created_at}'),
    (3, 'org:{organization_id}:widget:{conversation_id}', '{id,conversation_id,organization_id,content,sender_type,sender_name,created_at}')),
  mirror(columns) as (values
    ('{id,organization_id,customer_name,customer_email,status,priority,assignee_id,created_at,updated_at}'::name[]))
insert into campfire.builtin_routes (key, table_name, operation, on_move, channel, event, columns, when_changed, enabled)
select 10 + n, 'messages', 'INSERT', false, channel, 'message:created', columns, null::name[], true
from message
union all
select 20 + n, 'realtime_conversations', 'INSERT', true, channel, 'conversation:created', columns, null, true
from mirror, (values (1, 'org:{organization_id}'), (2, 'org:{organization_id}:conversations')) as c (n, channel)
union all
-- The organization's channel hears of every touch; the others only of what a reader would call a change.
select 31, 'realtime_conversations', 'UPDATE', false, 'org:{organization_id}', 'conversation:updated', columns, null::name[], true
from mirror
union all
select 31 + n, 'realtime_conversations', 'UPDATE', false, channel, 'conversation:updated', coalesce(visitor_safe, columns),
  array_remove(columns, 'updated_at'), true
from mirror, (values
  (1, 'org:{organization_id}:conversations', null::name[]),
  (2, 'org:{organization_id}:conv:{id}', '{id,organization_id,status,updated_at}'),
  (3, 'org:{organization_id}:widget:{id}', '{id,organization_id,status,updated_at}')) as c (n, channel, visitor_safe)
union all
select 40 + n, 'realtime_conversations', 'DELETE', true, channel, 'conversation:deleted', '{id,organization_id}', null::name[], true
from (values
  (1, 'org:{organization_id}'),
  (2, 'org:{organization_id}:conversations'),
  (3, 'org:{organization_id}:conv:{id}'),
  (4, 'org:{organization_id}:widget:{id}')) as c (n, channel)
union all
select 50 + n, 'read_receipts', operation, false, channel, 'read:receipt',
  '{conversation_id,reader_type,last_read_message_id,read_at}', when_changed, true
from (values
  (1, 'INSERT', 'org:{organization_id}:conv:{conversation_id}', null::name[]),
  (2, 'INSERT', 'org:{organization_id}:widget:{conversation_id}', null),
  (3, 'UPDATE', 'org:{organization_id}:conv:{conversation_id}', '{last_read_message_id,read_at}'),
  (4, 'UPDATE', 'org:{organization_id}:widget:{conversation_id}', '{last_read_message_id,read_at}')) as c (n, operation, channel, when_changed)
union all
select 60 + n, 'messages', 'UPDATE', false, channel, 'message:updated', columns, null, false
from message
union all
select 70 + n, 'messages', 'DELETE', false, channel, 'message:deleted',
  '{id,conversation_id,organization_id}', null, false
from message;

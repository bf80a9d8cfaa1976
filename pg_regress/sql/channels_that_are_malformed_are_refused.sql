\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Whatever begins with org is ours or an error; everything else is somebody's own channel.
create function pg_temp.try(channel text, out scope text, out state text) language plpgsql as $$
begin
  select p.scope into scope from campfire.parse_channel(channel) as p;
exception when others then
  state := sqlstate;
end $$;
select channel, t.* from unnest(array[
  'org', 'org:', 'org:1', 'ORG:00000000-0000-4000-8000-00000000000a', 'Org:x', 'bcast:org:x',
  'org:00000000-0000-4000-8000-00000000000A',
  'org:00000000-0000-4000-8000-00000000000a:', 'org:00000000-0000-4000-8000-00000000000a:agents',
  'org:00000000-0000-4000-8000-00000000000a:conv', 'org:00000000-0000-4000-8000-00000000000a:conv:1',
  'org:00000000-0000-4000-8000-00000000000a:conversations:x',
  'org:00000000-0000-4000-8000-00000000000a:conv:00000000-0000-4000-8000-0000000000c1:x',
  ' org:00000000-0000-4000-8000-00000000000a', 'org:{00000000-0000-4000-8000-00000000000a}',
  'org:00000000-0000-4000-8000-00000000000a' || e'\n',
  'organization:1', 'room', '', 'bcast:room', 'bcast:bcast:org:00000000-0000-4000-8000-00000000000a']) with ordinality as c (channel, n),
  pg_temp.try(channel) as t order by n;
select * from campfire.parse_channel('org:1');

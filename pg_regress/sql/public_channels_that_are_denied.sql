\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- If every relay of the database denies public channels, what SQL sends to one reaches nobody, and the sender is told.
select 'made' from pg_create_logical_replication_slot('campfire_regress_denied', 'pgoutput');
begin;
set client_min_messages = warning;
select campfire.install_supabase_api();
create policy writers on realtime.messages for insert to authenticated with check (true);
create function pg_temp.send() returns void language plpgsql as $$
begin
  perform realtime.send('{}', 'public', 'room:7', false);
  perform realtime.send('{}', 'private', 'room:7');
  perform campfire.broadcast('bcast:news', 'e', '{}');
  perform campfire.broadcast('org:00000000-0000-4000-8000-00000000000a', 'e', '{}');
end $$;
-- No relay has said anything.
select pg_temp.send();
insert into campfire.slots values ('campfire_regress_denied', '1', 1, '{campfire}', '{1}', '{1}');
select pg_temp.send();
update campfire.slots set public_channels = false;
select pg_temp.send();
-- As anybody, and by hand.
set role authenticated;
select realtime.send('{}', 'public', 'room:7', false);
insert into realtime.messages (topic, extension, event, payload, private) values ('room:7', 'broadcast', 'e', '{}', false);
reset role;
-- A slot that is gone says nothing any more; a second relay that allows them does.
insert into campfire.slots values ('campfire_regress_gone', '1', 1, '{campfire}', '{1}', '{1}', now(), true);
select campfire.public_channels_denied();
update campfire.slots set public_channels = true;
select pg_temp.send();
rollback;
select 'dropped' from pg_drop_replication_slot('campfire_regress_denied');

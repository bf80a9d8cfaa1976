\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Clients ignore case when they pick the listeners of an event, so another spelling of a reserved name is that name.
begin;
create function pg_temp.verdict(channel text, event text) returns text language plpgsql as $$
begin
  perform campfire.broadcast(channel, event, '{}');
  return 'sent';
exception when others then
  return sqlstate || ': ' || sqlerrm;
end $$;
set role service_role;
select campfire.broadcast('org:10000000-0000-4000-8000-000000000001', 'Message:created', '{}');
\echo :LAST_ERROR_SQLSTATE
select e as event, pg_temp.verdict('org:10000000-0000-4000-8000-000000000001', e) as verdict from unnest(array[
  'message:created', 'Message:created', 'MESSAGE:CREATED', 'cOnVeRsAtIoN:updated', 'READ:receipt', 'Agent:status:online', 'CampFire:x',
  U&'CAMPF\0130RE:x', U&'m\0307essage:created', U&'\0307MESSAGE:created', U&'READ\0307:receipt',
  'messages:created', 'message', 'unread:receipt', ' message:created', U&'m\0301essage:x', U&'campf\0131re:x']) with ordinality as u (e, n) order by n;
select pg_temp.verdict('bcast:org:10000000-0000-4000-8000-000000000001:conversations', 'Message:created');
select pg_temp.verdict('news', 'Message:created');
rollback;

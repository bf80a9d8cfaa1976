\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A reader has several devices, and the last of them to write may have read least.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into agents (organization_id, user_id, display_name) values
  ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', 'Ada');
insert into conversations (id, organization_id) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a');
-- The third and fourth at the same time; the fifth belongs to another conversation.
insert into messages (id, organization_id, conversation_id, content, sender_type, created_at)
select ('00000000-0000-4000-8000-00000000000' || n)::uuid, '00000000-0000-4000-8000-00000000000a', ('00000000-0000-4000-8000-0000000000c' || c)::uuid,
  'message ' || n, 'visitor', at::timestamptz
from (values (1, 1, '2020-01-01 00:00+00'), (2, 1, '2020-01-02 00:00+00'), (3, 1, '2020-01-03 00:00+00'), (4, 1, '2020-01-03 00:00+00'),
  (5, 2, '2020-01-05 00:00+00')) as v (n, c, at);
create function pg_temp.stands() returns table (message text, read_at text) language sql as $$
  select coalesce(right(last_read_message_id::text, 1), 'none'), to_char(read_at at time zone 'utc', 'MM-DD') from read_receipts
$$;
create function pg_temp.read(n integer, at timestamptz) returns setof text language sql as $$
  update read_receipts set last_read_message_id = ('00000000-0000-4000-8000-00000000000' || n)::uuid, read_at = at
  where reader_id = '00000000-0000-4000-8000-0000000000a1' returning 'written'
$$;
grant execute on function pg_temp.stands(), pg_temp.read(integer, timestamptz) to authenticated;

set role authenticated;
select from set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000a1"}', true);
insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'agent', '00000000-0000-4000-8000-0000000000a1',
  '00000000-0000-4000-8000-000000000002', '2020-01-02 00:00+00');
select pg_temp.read(1, '2020-02-01');
select * from pg_temp.stands();
select pg_temp.read(4, '2020-02-02'), pg_temp.stands();
-- The id decides between messages of the same time.
select pg_temp.read(3, '2020-02-03');
-- Nor by the statement that clients use.
insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'agent', '00000000-0000-4000-8000-0000000000a1',
  '00000000-0000-4000-8000-000000000002', '2020-02-04 00:00+00')
on conflict (conversation_id, reader_id) do update set last_read_message_id = excluded.last_read_message_id, read_at = excluded.read_at
returning 'written';
select * from pg_temp.stands();
-- The same message again may be read later, but not earlier.
select pg_temp.read(4, '2020-02-05');
update read_receipts set read_at = '2020-01-01';
select * from pg_temp.stands();

-- What there is not, or not in this conversation, stands at its read_at; so does a receipt whose message was deleted.
select pg_temp.read(5, '2020-02-06');
select * from pg_temp.stands();
select pg_temp.read(4, '2020-02-07');
update read_receipts set last_read_message_id = null, read_at = '2020-02-08' returning 'written' as null_is_at_its_time;
select pg_temp.read(4, '2020-02-09');
reset role;
insert into messages (id, organization_id, conversation_id, content, sender_type, created_at)
values ('00000000-0000-4000-8000-000000000006', '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'x', 'visitor', '2020-03-01'),
       ('00000000-0000-4000-8000-000000000007', '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'x', 'visitor', '2020-03-03');
select pg_temp.read(6, '2020-03-02');
delete from messages where right(id::text, 1) = '6';
select pg_temp.read(4, '2020-03-04');
select pg_temp.read(7, '2020-03-04');
-- An owner who means it deletes the row.
delete from read_receipts;
-- A visitor, who may not see who reads.
set role anon;
select from set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1"}', true);
insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'visitor', '00000000-0000-4000-8000-0000000000c1',
  '00000000-0000-4000-8000-000000000002', '2020-01-02');
update read_receipts set last_read_message_id = '00000000-0000-4000-8000-000000000001', read_at = now() where reader_type = 'visitor' returning 'written';
update read_receipts set last_read_message_id = '00000000-0000-4000-8000-000000000003', read_at = now() where reader_type = 'visitor' returning 'written';
rollback;
-- Tables that lost the one that decides.
begin;
set client_min_messages = warning;
create schema chat;
select campfire.install('chat');
insert into chat.organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into chat.conversations (id, organization_id) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a');
insert into chat.read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'visitor', '00000000-0000-4000-8000-0000000000c1', gen_random_uuid());
drop table chat.messages;
update chat.read_receipts set last_read_message_id = gen_random_uuid() returning 'written';
rollback;

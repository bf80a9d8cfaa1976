\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A'), ('00000000-0000-4000-8000-00000000000b', 'B');
insert into agents (organization_id, user_id, display_name, active) values
  ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', 'Ada', true),
  ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a2', 'Abe', false),
  ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000b1', 'Bob', true);
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01', '2020-01-01'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Amy', '2020-01-01', '2020-01-01'),
  ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'Ben', '2020-01-01', '2020-01-01');
insert into messages (organization_id, conversation_id, content, sender_type, sender_email, created_at)
select organization_id, id, 'to ' || customer_name, 'agent', 'agent@example.com', '2020-01-01' from conversations;
insert into read_receipts (organization_id, conversation_id, reader_type, reader_id)
select organization_id, id, 'agent', '00000000-0000-4000-8000-0000000000a1' from conversations;
set role service_role;
select (select count(*) from organizations), (select count(*) from agents), (select count(*) from conversations), (select count(*) from messages), (select count(*) from realtime_conversations), (select count(*) from read_receipts);
insert into messages (conversation_id, organization_id, content, sender_type, created_at) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'robot', 'ai', '2020-01-02');
update agents set active = false;
delete from conversations where customer_name = 'Ben';
select customer_name from realtime_conversations order by 1;
-- The mirror is nobody's but its owner's.
update realtime_conversations set status = 'x';
rollback;

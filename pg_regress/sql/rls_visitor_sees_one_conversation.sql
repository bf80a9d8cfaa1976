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
set role anon;
select set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1"}', true) is not null as claimed;
select id, customer_name, status from conversations;
select content, sender_type from messages;
select id, status from realtime_conversations;
select conversation_id, reader_type from read_receipts;
-- Columns that are for agents stay hidden.
select * from conversations;
select assignee_id from conversations;
select sender_email from messages;
select customer_name from realtime_conversations;
select reader_id from read_receipts;
select 1 from organizations;
select 1 from agents;
-- Another organization's claim with our conversation, and claims that are none.
select set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000b", "conversation_id": "00000000-0000-4000-8000-0000000000c1"}', true) is not null as claimed;
select (select count(id) from conversations), (select count(id) from messages), (select count(id) from realtime_conversations), (select count(read_at) from read_receipts);
select set_config('request.jwt.claims', '{', true);
select (select count(id) from conversations), (select count(id) from messages), (select count(id) from realtime_conversations), (select count(read_at) from read_receipts);
select set_config('request.jwt.claims', '', true);
select (select count(id) from conversations), (select count(id) from messages), (select count(id) from realtime_conversations), (select count(read_at) from read_receipts);
rollback;

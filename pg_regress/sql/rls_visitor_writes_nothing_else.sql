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
-- As somebody else, elsewhere, or at another time.
insert into messages (conversation_id, organization_id, content, sender_type) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'x', 'agent');
insert into messages (conversation_id, organization_id, content, sender_type) values ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'x', 'visitor');
insert into messages (conversation_id, organization_id, content, sender_type) values ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'x', 'visitor');
insert into messages (conversation_id, organization_id, content, sender_type, created_at) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'x', 'visitor', now());
insert into conversations (id, organization_id) values ('00000000-0000-4000-8000-0000000000c8', '00000000-0000-4000-8000-00000000000a');
insert into conversations (id, organization_id, status) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'closed');
update conversations set customer_name = 'x';
delete from conversations;
update messages set content = 'x';
delete from messages;
insert into read_receipts (conversation_id, organization_id, reader_type, reader_id) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'agent', '00000000-0000-4000-8000-0000000000a2');
insert into read_receipts (conversation_id, organization_id, reader_type, reader_id) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'visitor', '00000000-0000-4000-8000-0000000000a2');
update read_receipts set read_at = now() where reader_type = 'agent' returning reader_type;
insert into realtime_conversations (id, organization_id, status, priority, created_at, updated_at) values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'x', 'x', now(), now());
update realtime_conversations set status = 'x';
delete from realtime_conversations;
truncate realtime_conversations;
rollback;

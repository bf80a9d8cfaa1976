\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (id, name) values
  ('00000000-0000-4000-8000-00000000000a', 'A'), ('00000000-0000-4000-8000-00000000000b', 'B');
insert into agents (organization_id, user_id, display_name)
values ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000b1', 'Bob');
insert into conversations (id, organization_id)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a');
insert into messages (organization_id, conversation_id, content, sender_type)
values ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000c1', 'wrong', 'agent');
insert into read_receipts (organization_id, conversation_id, reader_type, reader_id)
values ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000c1', 'agent', '00000000-0000-4000-8000-0000000000b1');
update conversations set assignee_id = '00000000-0000-4000-8000-0000000000b1';
-- A sender is one of four.
\set VERBOSITY terse
insert into messages (organization_id, conversation_id, content, sender_type)
values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'wrong', 'nobody');
rollback;

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
set role authenticated;
select set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000a1"}', true) is not null as claimed;
select name from organizations;
select display_name, active from agents order by display_name;
select customer_name, metadata from conversations order by customer_name;
select content, sender_email from messages order by content;
select customer_name from realtime_conversations order by customer_name;
select count(*) from read_receipts;
-- An agent of another organization, an inactive one, a stranger, and no claims at all.
create function pg_temp.seen(claims text) returns bigint language plpgsql as $$
begin
  perform set_config('request.jwt.claims', claims, true);
  return (select count(*) from organizations) + (select count(*) from agents) + (select count(*) from conversations) + (select count(*) from messages)
    + (select count(*) from realtime_conversations) + (select count(*) from read_receipts);
end $$;
select n, pg_temp.seen(c) from unnest(array[
  '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000b1"}',
  '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000a2"}',
  '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000ff"}',
  '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "ada"}',
  '{"org_id": "00000000-0000-4000-8000-00000000000a"}', '{"sub": "00000000-0000-4000-8000-0000000000a1"}', '{', '']) with ordinality as u (c, n) order by n;
-- And the one of the other organization sees that.
select pg_temp.seen('{"org_id": "00000000-0000-4000-8000-00000000000b", "sub": "00000000-0000-4000-8000-0000000000b1"}');
rollback;

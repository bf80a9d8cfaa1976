\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
-- One statement, many messages: the newest counts.
insert into messages (organization_id, conversation_id, content, sender_type, created_at)
select '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'hello', 'visitor', t::timestamptz
from unnest('{2020-02-01 00:00+00,2020-02-03 00:00+00,2020-02-02 00:00+00}'::text[]) as t;
select customer_name, updated_at = '2020-02-03 00:00+00' as raised, updated_at = '2020-01-01 00:00+00' as left_alone
from conversations order by customer_name;
select m.updated_at = c.updated_at as mirrored from conversations c join realtime_conversations m using (id);
-- Not by an old message, and never beyond the clock.
insert into messages (organization_id, conversation_id, content, sender_type, created_at)
values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'old', 'visitor', '2019-01-01 00:00+00'),
       ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c2', 'future', 'visitor', '2999-01-01 00:00+00');
select customer_name, updated_at = '2020-02-03 00:00+00' as left_alone, updated_at between now() and clock_timestamp() as at_the_clock
from conversations order by customer_name;
-- It does not go back.
update conversations set updated_at = '2000-01-01 00:00+00', status = 'closed';
select customer_name, status, updated_at > '2020-01-01 00:00+00' as kept from conversations order by customer_name;
rollback;

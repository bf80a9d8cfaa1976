\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A changed key is a deleted row and a new one.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
update conversations set id = '00000000-0000-4000-8000-0000000000c9' where customer_name = 'Ann';
select id, customer_name from realtime_conversations order by id;
-- A chain in one statement, where each row takes the key another one just left, is the source's own limit.
update conversations set id = '00000000-0000-4000-8000-0000000000c1', customer_name = 'Eve' where customer_name = 'Ann';
select id, customer_name from realtime_conversations order by id;
rollback;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Values stored out of line are compared by what they say.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
alter table conversations alter column customer_name set storage external;
update conversations set customer_name = repeat('x', 10000) where id = '00000000-0000-4000-8000-0000000000c1';
create temporary table before as select id, ctid as place from realtime_conversations;
update conversations set metadata = '{"a": 1}';
update conversations set customer_name = repeat('x', 10000) where id = '00000000-0000-4000-8000-0000000000c1';
select count(*) as untouched from realtime_conversations as m join before as b on b.id = m.id and b.place = m.ctid;
update conversations set customer_name = repeat('x', 9999) || 'y' where id = '00000000-0000-4000-8000-0000000000c1';
select right(customer_name, 2), length(customer_name) from realtime_conversations where id = '00000000-0000-4000-8000-0000000000c1';
rollback;

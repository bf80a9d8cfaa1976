\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (id, organization_id, customer_name, created_at, updated_at) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01 00:00+00', '2020-01-01 00:00+00'),
  ('00000000-0000-4000-8000-0000000000c2', '00000000-0000-4000-8000-00000000000a', 'Ben', '2020-01-01 00:00+00', '2020-01-01 00:00+00');
create temporary table before as select id, ctid as place from realtime_conversations;
update conversations set customer_name = customer_name, status = status;
update conversations set metadata = '{"a": 1}', tags = '{x}', customer_ip = '10.0.0.1', customer = '{"b": 2}';
select count(*) as untouched from realtime_conversations as m join before as b on b.id = m.id and b.place = m.ctid;
update conversations set status = 'closed' where customer_name = 'Ann';
select count(*) as untouched from realtime_conversations as m join before as b on b.id = m.id and b.place = m.ctid;
rollback;

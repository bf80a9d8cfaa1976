\set SHOW_CONTEXT never
-- Mirror, triggers, old rows; then what changes later.
create schema projection_test;
create type projection_test.state as enum ('new', 'paid');
create domain projection_test.amount as numeric(10, 2) check (value >= 0);
create table projection_test.orders (
  shop int,
  id bigint,
  state projection_test.state not null default 'new',
  total projection_test.amount,
  doubled numeric generated always as (total * 2) stored,
  ip inet,
  name varchar(20) collate "C",
  customer jsonb,
  tags text[],
  primary key (shop, id)
);
insert into projection_test.orders (shop, id, total, ip, name, customer)
select n % 3, n, n, '192.0.2.1', 'order ' || n, jsonb_build_object('plan', 'plan ' || n % 2) from generate_series(1, 25) as n;
call campfire.create_projection('projection_test.orders', batch_rows => 10);
\d projection_test.realtime_orders
select relreplident, relacl from pg_class where oid = 'projection_test.realtime_orders'::regclass;
select key_columns, columns, definitions, complete from campfire.projections where source = 'projection_test.orders'::regclass;
select count(*), sum(total), sum(doubled), min(ip) as ip from projection_test.realtime_orders;
insert into projection_test.orders (shop, id, total) values (1, 100, 1);
update projection_test.orders set state = 'paid' where id < 3;
update projection_test.orders set id = 200 where id = 3;
delete from projection_test.orders where id = 4;
select * from projection_test.realtime_orders where id < 5 or id >= 100 order by shop, id;
select * from campfire.verify_projection('projection_test.orders');
-- A second time is refused, and says what to do.
call campfire.create_projection('projection_test.orders');
select campfire.drop_projection('projection_test.orders');
select to_regclass('projection_test.realtime_orders') as mirror, count(*) as triggers
from pg_trigger where tgrelid = 'projection_test.orders'::regclass;
insert into projection_test.orders (shop, id) values (9, 9);

-- Chosen columns, and expressions.
call campfire.create_projection('projection_test.orders',
  array['id', 'shop', 'customer->>''plan'' as plan', 'total + 1 as more', 'state', '(state)::text as state_text', 'upper(name) as "Name"']);
select columns, definitions from campfire.projections where source = 'projection_test.orders'::regclass;
select * from projection_test.realtime_orders where id in (1, 9) order by id;
create temporary table before as select ctid as place, id, shop from projection_test.realtime_orders;
update projection_test.orders set customer = customer || '{"other": 1}', tags = '{a}', ip = null;
select count(*) as moved from projection_test.realtime_orders as m join before as b using (id, shop) where m.ctid <> b.place;
update projection_test.orders set customer = '{"plan": "gold"}', name = 'b' where id in (1, 2);
select * from projection_test.realtime_orders where id in (1, 2) order by id;
select * from campfire.verify_projection('projection_test.orders');
set client_min_messages = warning;
drop schema projection_test cascade;

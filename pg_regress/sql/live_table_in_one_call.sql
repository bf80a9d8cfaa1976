\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
alter table campfire.user_routes alter id restart with 1000; -- so that ids below are always the same
-- From a table of any columns to routes, and back; not in a transaction, because old rows are copied in several.
create role campfire_regress_shop;
grant create, usage on schema public to campfire_regress_shop;
set role campfire_regress_shop;
create type order_state as enum ('new', 'paid');
create table orders (
  id int, shop_id int, state order_state not null default 'new', total numeric(8,2), tags text[], customer jsonb, note text, primary key (id, shop_id)
) partition by range (shop_id);
create table orders_1 partition of orders for values from (0) to (100);
insert into orders (id, shop_id, customer) select n, 7, jsonb_build_object('plan', 'gold') from generate_series(1, 1500) as n;
reset role;
call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order');
select (select count(*) from realtime_orders) as mirrored, (select count(*) from campfire.verify_projection('orders')) as different;
-- Identical: nothing. With other columns: only what is missing, under the names of before.
call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order');
call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order', columns => array['state', 'customer->>''plan'' as plan'], snapshot_by => 'id');
call campfire.make_live('orders', 'shop:{shop_id}', 'order', '{state,customer->>''plan'' as plan}', snapshot_by => 'id');
call campfire.make_live('orders', channel => 'all', event => 'sale', columns => '{note}');
select r.table_name, r.operation, r.on_move, r.channel, r.event, r.columns, r.when_changed, r.public, r.snapshot_by, r.gate
from campfire.routes as r where not r.builtin order by r.channel, r.operation;
select plan, count(*) from realtime_orders group by 1;
select count(*) from campfire.verify_projection('orders');
select relation, column_name, problem from campfire.check_publication();
-- What it did not make, it does not remove.
select campfire.add_route('realtime_orders', 'INSERT', 'stock', 'order:packed') > 0 as added;
select campfire.make_live_undo('orders');
select event from campfire.routes where not builtin;
select tablename, attnames from pg_publication_tables where tablename like '%orders%';
call campfire.make_live('orders', channel => 'all', event => 'sale', columns => '{note}');
select campfire.make_live_undo('orders');
select campfire.drop_projection('orders', unpublish => true);
-- All of it: a view of somebody's keeps the mirror, and then nothing does.
call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order');
create view paid as select id from realtime_orders where state = 'paid';
select campfire.make_live_undo('orders');
drop view paid;
select campfire.drop_projection('orders');
call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order');
select campfire.make_live_undo('orders');
select to_regclass('realtime_orders') as mirror, (select count(*) from campfire.live_tables) as live, (select count(*) from campfire.routes where not builtin) as routes,
  (select count(*) from pg_trigger where tgrelid = 'orders'::regclass) as triggers,
  (select count(*) from pg_publication_tables where tablename like '%orders%') as published;
select campfire.make_live_undo('orders');
\echo :LAST_ERROR_SQLSTATE

-- A table that is scalar, and logs its old rows, is published itself, also in a transaction.
create table stock (sku text primary key, shop_id int, amount int, secret text);
alter table stock replica identity full;
begin;
call campfire.make_live('stock', 'shop:{shop_id}', 'stock', columns => '{amount}', public => true);
commit;
select r.table_name, r.operation, r.columns, r.when_changed, r.public from campfire.routes as r where not r.builtin order by r.operation;
select campfire.make_live_undo('stock');
-- One that add_route() made otherwise is not changed.
select campfire.publish('campfire', 'stock');
select campfire.add_route('stock', 'INSERT', 'shop:{shop_id}', 'stock:created', columns => '{sku}') > 0 as added;
call campfire.make_live('stock', 'shop:{shop_id}', 'stock');
\echo :LAST_ERROR_SQLSTATE
select campfire.drop_route(id) from campfire.routes where not builtin;
select campfire.unpublish('campfire', 'stock');

-- What is wrong is said before anything is made or copied.
\set VERBOSITY terse
call campfire.make_live('orders', 'shop:{nothing}', 'order');
call campfire.make_live('orders', 'shop:{customer}', 'order');
call campfire.make_live('orders', '{shop_id}', 'order');
call campfire.make_live('orders', 'org:{shop_id}', 'order');
call campfire.make_live('orders', 'shop:{shop_id}', 'order', columns => '{tags}');
call campfire.make_live('orders', 'shop:{shop_id}', 'order', columns => '{now() as now}');
call campfire.make_live('orders', 'shop:{shop_id}', 'order', snapshot_by => 'nothing');
call campfire.make_live('orders', 'shop:{shop_id}', repeat('e', 255));
call campfire.make_live('orders_1', 'shop:{shop_id}', 'order');
call campfire.make_live(null, 'shop:{shop_id}', 'order');
call campfire.make_live('pg_class', 'shop:{relname}', 'class');
begin;
call campfire.make_live('orders', 'shop:{shop_id}', 'order');
\echo :LAST_ERROR_SQLSTATE
rollback;
select campfire.make_live('orders', 'shop:{shop_id}', 'order');
set role campfire_regress_shop;
call campfire.make_live('orders', 'shop:{shop_id}', 'order');
select campfire.make_live_undo('orders');
select campfire.finish_live('orders', 'shop:{shop_id}', 'order', null, false, null, null, false);
reset role;
select to_regclass('realtime_orders') as mirror, (select count(*) from campfire.live_tables) as live, (select count(*) from campfire.routes where not builtin) as routes;
\set VERBOSITY default

-- Columns that a gate reads are mirrored, too, and not sent.
select items, campfire.live_items('orders', 'shop:{shop_id}', gate, items, null) from (values
  ('note = claims.sub and state <> ''paid''', null::text[]), ('note = claims.sub and customer is null', '{total}'), ('notes = claims.shop', '{total}')
) as v (gate, items);
-- Interrupted after the mirror was made: the next call continues.
do $$ begin
  perform campfire.start_projection('orders', null);
  perform campfire.note_live('orders');
end $$;
select severity, subject, problem, mend from campfire.check() where subject like '%orders%' order by problem;
call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order');
select (select count(*) from realtime_orders) as mirrored, complete, (select has_projection from campfire.live_tables) from campfire.projections where source = 'orders'::regclass;
-- What is dropped by other hands is not missed.
select campfire.drop_projection('orders', unpublish => true);
select campfire.make_live_undo('orders');
drop table campfire.private_channels; -- which the first private route made
drop table orders, stock;
drop type order_state;
revoke all on schema public from campfire_regress_shop;
drop role campfire_regress_shop;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create table orders (id int primary key, shop_id uuid not null, state text, detail jsonb);
create table items (id int primary key, name text);
alter table items replica identity full;
-- What is not published cannot be routed; the hint mends it.
select campfire.add_route('orders', 'INSERT', 'shop:{shop_id}', 'order:created');
\echo :LAST_ERROR_SQLSTATE
select campfire.publish('campfire', 'orders', '{id,shop_id}');
select campfire.publish('campfire', 'items');
select campfire.add_route('orders', 'insert', 'shop:{shop_id}', 'order:created', '{id,state}');
\echo :LAST_ERROR_SQLSTATE
select campfire.publish('campfire', 'public.orders', '{id,shop_id,state}');
select campfire.add_route('orders', 'insert', 'shop:{shop_id}', 'order:created', '{id,state}') is not null as added;
select campfire.add_route('items', 'update', 'items', 'item:changed', when_changed => '{name}') is not null as added;
select campfire.add_route('items', 'delete', 'items', 'item:gone') is not null as added;
select table_name, operation, channel, event, columns, when_changed, on_move, enabled, builtin from campfire.routes where not builtin order by id;
\set VERBOSITY sqlstate
select campfire.add_route('orders', 'insert', 'shop:{shop_id}', 'order:created');
select campfire.add_route('orders', 'insert', 'shop:{nothing}', 'order:created');
select campfire.add_route('orders', 'insert', 'shop:{detail}', 'order:created');
select campfire.add_route('orders', 'insert', 'shop:{shop_id', 'order:created');
select campfire.add_route('orders', 'insert', 'org:{shop_id}:other', 'order:created');
select campfire.add_route('orders', 'merge', 'shop', 'order:created');
select campfire.add_route('orders', 'update', 'shop', 'order:changed', on_move => true);
select campfire.add_route('orders', 'insert', 'shop', 'order:changed', when_changed => '{id}');
select campfire.add_route('orders', 'insert', 'shop', E'order\n');
select campfire.add_route('orders', 'insert', 'shop', null);
-- Of the old row only the key is known.
select campfire.add_route('orders', 'delete', 'shop:{shop_id}', 'order:deleted');
select campfire.add_route('orders', 'update', 'shop:{shop_id}', 'order:changed', when_changed => '{state}');
select campfire.drop_route(-929);
select campfire.drop_route(1000000);
select campfire.enable_route(1000000);
\set VERBOSITY default
-- A table with a projection is routed already.
select campfire.add_route('conversations', 'insert', 'org:{organization_id}', 'conversation:raw') is not null as added;
-- Switches, built-in and added; the built-in one stays the extension's.
select campfire.enable_route(-929);
select campfire.enable_route(id, false) from campfire.routes where event = 'order:created';
select event, enabled from campfire.routes where id = -929 or event = 'order:created' order by 1;
select * from campfire.route_overrides;
select campfire.enable_route(-929, false);
select enabled from campfire.routes where id = -929;
select campfire.drop_route(id) from campfire.routes where event = 'item:gone';
select count(*) from campfire.routes where not builtin;
-- A renamed table keeps its routes.
alter table orders rename to purchases;
select distinct table_name from campfire.routes where event = 'order:created';
-- Only superusers.
set role service_role;
select campfire.add_route('items', 'insert', 'items', 'item:new');
rollback;

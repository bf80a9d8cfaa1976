\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- alter_projection(): routes stay, what is new is copied, and nobody is told of the copying.
alter table campfire.user_routes alter id restart with 2000; -- so that ids below are always the same
create table orders (id int primary key, shop int, state text, detail jsonb, code char(3));
insert into orders select n, n % 3, 'new', jsonb_build_object('plan', case when n % 2 = 0 then 'gold' end), 'a' from generate_series(1, 2500) as n;
\set QUIET on
set client_min_messages = warning;
call campfire.create_projection('orders', '{id,shop,state}');
select campfire.publish('campfire', 'realtime_orders');
reset client_min_messages;
create function pg_temp.routes() returns table (channel text, operation text, columns name[], when_changed name[]) language sql as
$$ select r.channel, r.operation, r.columns, r.when_changed from campfire.routes as r where not r.builtin order by r.id $$;
select campfire.add_route('realtime_orders', 'UPDATE', 'shop:{shop}', 'order:updated') > 0 as added;
select campfire.add_route('realtime_orders', 'UPDATE', 'states', 'order:state', '{id,state}', when_changed => '{state}') > 0 as added;
select campfire.add_route('realtime_orders', 'INSERT', 'shop:{shop}', 'order:created') > 0 as added;

-- What is copied is what is new: 1250 rows of 2500 get a value.
create temporary table before as select id, ctid as place from realtime_orders;
call campfire.alter_projection('orders', array['id', 'shop', 'state', 'detail->>''plan'' as plan']);
select count(*) as written from realtime_orders as r join before as b on b.id = r.id and b.place <> r.ctid;
call campfire.alter_projection('orders', array['id', 'shop', 'state', 'detail->>''plan'' as plan', 'code']);
select plan, code, count(*), length(min(code)) from realtime_orders group by 1, 2 order by 1;
select columns, definitions, complete from campfire.projections where source = 'orders'::regclass;
select * from pg_temp.routes();
select count(*) from campfire.verify_projection('orders');
-- While it lasts, routes that fire on every change do not fire on this one.
do $$ begin
  perform campfire.change_projection('orders', array['id', 'shop', 'state', 'detail->>''plan'' as plan', 'code', 'length(state) as length']);
end $$;
select * from pg_temp.routes();
select columns, cardinality(muted) as muted, after_key from campfire.projection_backfills;
update orders set state = 'longer' where id = 1;
select length from realtime_orders where id in (1, 2) order by id;
-- Another change waits for it; a call of create_projection() continues it, a repair ends it.
call campfire.alter_projection('orders', '{id}');
select campfire.backfill_batch('orders', 1000);
call campfire.create_projection('orders');
select length, count(*) from realtime_orders group by 1 order by 1;
select * from pg_temp.routes();
do $$ begin
  perform campfire.change_projection('orders', array['id', 'shop', 'state', 'detail->>''plan'' as plan', 'length(state) + 1 as length']);
end $$;
select * from pg_temp.routes();
call campfire.repair_projection('orders');
select length, count(*) from realtime_orders group by 1 order by 1;
select * from pg_temp.routes();

-- The same name for another type; the same again; a column less.
call campfire.alter_projection('orders', array['id', 'shop', 'state', '(detail->>''plan'' = ''gold'') as plan']);
select plan, count(*) from realtime_orders group by 1 order by 1;
call campfire.alter_projection('orders', array['id', 'shop', 'state', '(detail->>''plan'' = ''gold'') as plan']);
select campfire.add_route('realtime_orders', 'UPDATE', 'plans', 'order:plan', '{id,plan}') > 0 as added;
call campfire.alter_projection('orders', '{state,shop,id}');
select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute where attrelid = 'realtime_orders'::regclass and attnum > 0 and not attisdropped order by attnum;
select * from pg_temp.routes();
select count(*) from campfire.verify_projection('orders');
select problem from campfire.check();

-- What a route or the key needs stays.
call campfire.alter_projection('orders', '{id,state}');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('orders', '{id,shop}');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('orders', '{shop,state}');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('orders', '{id as number,shop,state}');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('orders', '{id,shop,state,detail}');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('orders', '{id,shop,state,now() as now}');
\echo :LAST_ERROR_SQLSTATE
select campfire.alter_projection('orders', '{id}');
\echo :LAST_ERROR_SQLSTATE
begin;
call campfire.alter_projection('orders', '{id,shop,state,code}');
\echo :LAST_ERROR_SQLSTATE
rollback;
create role campfire_regress_other;
set role campfire_regress_other;
call campfire.alter_projection('orders', '{id,shop,state,code}');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('orders', dropped_partitions => 'delete');
\echo :LAST_ERROR_SQLSTATE
reset role;
drop role campfire_regress_other;
-- A view of the mirror keeps its columns.
create view shops as select shop from realtime_orders;
select campfire.drop_route(id) from campfire.routes where not builtin;
call campfire.alter_projection('orders', '{id,state}');
\echo :LAST_ERROR_SQLSTATE
drop view shops;
call campfire.alter_projection('orders', columns => campfire.default_projection('orders'));
select columns from campfire.projections where source = 'orders'::regclass;
-- The owner may, though the routes are a superuser's.
create role campfire_regress_owner;
alter table orders owner to campfire_regress_owner;
alter table realtime_orders owner to campfire_regress_owner;
select campfire.add_route('realtime_orders', 'UPDATE', 'shop:{shop}', 'order:updated') > 0 as added;
set role campfire_regress_owner;
call campfire.alter_projection('orders', '{id,shop,length(state) as length}');
reset role;
select length, count(*) from realtime_orders group by 1 order by 1;
select * from pg_temp.routes();
alter table orders owner to current_user;
alter table realtime_orders owner to current_user;
drop role campfire_regress_owner;
select campfire.drop_projection('orders', unpublish => true);
call campfire.alter_projection('orders', '{id}');
\echo :LAST_ERROR_SQLSTATE
call campfire.alter_projection('conversations', '{id}');
\echo :LAST_ERROR_SQLSTATE
drop table campfire.private_channels; -- which the first private route made
drop table orders;

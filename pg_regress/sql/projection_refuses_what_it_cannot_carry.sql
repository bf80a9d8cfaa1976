\set SHOW_CONTEXT never
-- Outside a transaction block, or the procedure would refuse for that.
create schema projection_test;
set search_path = projection_test;
create table no_key (id int);
call campfire.create_projection('no_key');
create table deferred (id int primary key deferrable initially deferred);
call campfire.create_projection('deferred');
create unlogged table unlogged (id int primary key);
call campfire.create_projection('unlogged');
create temporary table passing (id int primary key);
\set VERBOSITY sqlstate
call campfire.create_projection('passing');
\set VERBOSITY default
create view seen as select 1 as id;
call campfire.create_projection('seen');
create foreign data wrapper campfire_test;
create server campfire_test foreign data wrapper campfire_test;
create foreign table far (id int) server campfire_test;
call campfire.create_projection('far');
create table parted (id int primary key) partition by list (id);
create table part partition of parted for values in (1);
call campfire.create_projection('part');
create table array_key (id int[] primary key);
call campfire.create_projection('array_key');
create table orders (id int primary key, body jsonb, at timestamptz, tags text[]);
create table realtime_orders (id int);
call campfire.create_projection('orders');
drop table realtime_orders;
\set VERBOSITY default
call campfire.create_projection('orders', '{body}');
call campfire.create_projection('orders', '{at}');
call campfire.create_projection('orders', '{id,missing}');
call campfire.create_projection('orders', '{id,id}');
call campfire.create_projection('orders', array['id', 'body', 'tags']);
call campfire.create_projection('orders', array['id', '(select 1) as x']);
call campfire.create_projection('orders', array['id', 'count(*) as x']);
call campfire.create_projection('orders', array['id', 'row_number() over () as x']);
call campfire.create_projection('orders', array['id', 'generate_series(1, 2) as x']);
call campfire.create_projection('orders', array['id', 'random() as x']);
call campfire.create_projection('orders', array['id', 'now() as x']);
call campfire.create_projection('orders', array['id', 'at::text as x']);
call campfire.create_projection('orders', array['id', 'ctid']);
call campfire.create_projection('orders', array['id', 'orders::text as x']);
call campfire.create_projection('orders', array['id', 'id as a, id as b']);
call campfire.create_projection('orders', array['id', 'rolname from pg_authid --']);
call campfire.create_projection('orders', array['id', '1 as x; drop table orders; select id']);
call campfire.create_projection('orders', array['id', '$1 as x']);
call campfire.create_projection(null);
call campfire.create_projection('pg_catalog.pg_class');
call campfire.create_projection('campfire.settings');
begin;
call campfire.create_projection('orders');
rollback;
begin;
call campfire.repair_projection('orders');
rollback;
create function wrapped() returns void language plpgsql as $$ begin call campfire.create_projection('orders'); end $$;
select wrapped();
select campfire.drop_projection('orders');
select * from campfire.verify_projection('orders');
call campfire.repair_projection('orders');
-- Nothing was left behind.
select relname from pg_class where relnamespace = 'projection_test'::regnamespace and relname like 'realtime%' order by relname;
call campfire.create_projection('orders');
call campfire.create_projection('realtime_orders');
set client_min_messages = warning;
drop schema projection_test cascade;
drop foreign data wrapper campfire_test cascade;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A table that is renamed or moved keeps its routes. The relay knows it by its oid and need not be told.
set client_min_messages = warning;
create schema shop;
create table orders (id int primary key, state text);
create table other (id int primary key);
select campfire.publish('campfire', 'orders');
select campfire.add_route('orders', 'INSERT', 'shop', 'order:created') > 0 as added;
select 'made' from pg_create_logical_replication_slot('campfire_regress_renames', 'test_decoding');
alter table orders rename to sales;
alter table sales set schema shop;
alter schema shop rename to store;
alter table other rename to another;
select count(*) as told from pg_logical_slot_get_changes('campfire_regress_renames', null, null) where data like 'message%campfire.routes%';
select schema_name, table_name, relation = 'store.sales'::regclass as same_table from campfire.routes where not builtin;
select 'dropped' from pg_drop_replication_slot('campfire_regress_renames');
select campfire.drop_route(id) from campfire.routes where not builtin;
drop table store.sales, another;
drop schema store;

-- An installation goes with its schema, its switched routes too; one that was dropped is not in the way.
begin;
create schema gone;
select campfire.install('gone');
drop schema gone cascade;
create schema chat;
select campfire.install('chat');
select campfire.enable_route((select id from campfire.routes where schema_name = 'chat' and event = 'message:deleted' limit 1));
alter schema chat rename to "Chat ""2""";
select schema_name from campfire.installations order by number;
select schema_name, count(*) filter (where enabled) as enabled from campfire.routes where builtin group by 1 order by schema_name collate "C";
select problem from campfire.check_publication('campfire');
-- To the name of the one that is gone.
alter schema "Chat ""2""" rename to gone;
select schema_name from campfire.installations order by number;
select problem from campfire.check_publication('campfire');
rollback;

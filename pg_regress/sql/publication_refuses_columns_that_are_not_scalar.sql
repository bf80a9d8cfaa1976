\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
-- All offenders are named, the first in the message, and the hint mends the list.
select campfire.publish('campfire', 'conversations', '{id,tags,customer_name,metadata,customer_ip,status}');
\echo :LAST_ERROR_SQLSTATE
-- A table with replica identity full goes without a list, so it is refused whole.
create table orders (id int primary key, state text, "Detail" jsonb);
alter table orders replica identity full;
select campfire.publish('campfire', 'orders');
\echo :LAST_ERROR_SQLSTATE
-- A key that is not scalar.
create type kind as enum ('a');
create table kinds (kind kind primary key, name text);
select campfire.publish('campfire', 'kinds');
-- Generated columns are not replicated before Postgres 18.
create table sums (a int primary key, b int generated always as (a + 1) stored);
select campfire.publish('campfire', 'sums', '{a,b}');
-- The tables stay as they were.
select count(*) from pg_publication_tables where pubname = 'campfire';
rollback;

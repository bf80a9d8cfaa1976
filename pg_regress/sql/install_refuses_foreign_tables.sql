\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create schema other;
create table other.conversations (id int);
select campfire.install('other');
\echo :LAST_ERROR_SQLSTATE
-- An enum is in the way as much as a table.
drop table other.conversations;
create type other.conversation_status as enum ('yes');
select campfire.install('other');
-- Nothing was left behind.
select count(*) from pg_class where relnamespace = 'other'::regnamespace;
-- Tables of ours that are gone are not made again beside the others: their rows are in a backup.
drop table read_receipts;
select campfire.install();
\echo :LAST_ERROR_SQLSTATE
rollback;

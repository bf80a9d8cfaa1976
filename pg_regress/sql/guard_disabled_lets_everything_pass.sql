\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- The documented way out, and what it leaves behind: only commands on the same table are refused later.
begin;
set client_min_messages = warning;
create table orders (id int primary key, detail jsonb);
alter event trigger campfire_guard disable;
alter publication campfire add table orders;
alter event trigger campfire_guard enable;
create table others (id int);
alter table others add column detail jsonb;
alter table messages add column detail jsonb;
alter table orders add column more int;
select problem from campfire.check_publication('campfire');
rollback;
-- Publications that are not campfire's are nobody's business.
begin;
create publication mine for all tables;
create publication theirs for tables in schema public;
create table orders (id int, detail jsonb);
create publication ours for table orders;
alter table orders replica identity nothing;
rollback;

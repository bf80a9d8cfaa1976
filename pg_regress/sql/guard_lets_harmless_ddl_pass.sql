\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Nothing here may print an error.
begin;
alter table messages add column detail jsonb, add column parts text[];
alter table messages drop column detail;
alter table messages rename column parts to pieces;
alter table messages alter column content set default '';
alter table conversations alter column metadata drop default, alter column tags type varchar[];
alter table conversations add column place point;
create index extra on messages (created_at);
drop index extra;
create index on conversations using gin (metadata);
alter table conversations add constraint named check (customer_name <> '');
alter table conversations drop constraint named;
create table elsewhere (id int, detail jsonb);
alter table elsewhere add primary key (id);
alter table elsewhere drop constraint elsewhere_pkey;
drop table elsewhere;
create type kind as enum ('a');
alter type kind add value 'b';
create domain short as text check (length(value) < 10);
alter table realtime_conversations add column extra short;
alter table realtime_conversations drop column extra;
create temporary table scratch (id int primary key, detail jsonb);
drop table scratch;
create table orders (id int primary key, detail jsonb);
select campfire.publish('campfire', 'orders');
alter table orders add column more jsonb;
create schema campfire_elsewhere;
alter table orders set schema campfire_elsewhere;
alter publication campfire drop table campfire_elsewhere.orders;
select campfire.publish('campfire', 'campfire_elsewhere.orders');
drop schema campfire_elsewhere cascade;
-- Nobody needs a right for being looked at.
create role campfire_regress_owner;
grant create on schema public to campfire_regress_owner;
set role campfire_regress_owner;
create table mine (id int primary key, detail jsonb);
alter table mine add column more jsonb;
drop table mine;
reset role;
-- Partitions come and go.
create table events (id int, day date, detail jsonb, primary key (id, day)) partition by range (day);
select campfire.publish('campfire', 'events');
create table events_1 partition of events for values from ('2026-01-01') to ('2027-01-01');
create table events_2 (id int not null, day date not null, detail jsonb);
alter table events attach partition events_2 for values from ('2027-01-01') to ('2028-01-01');
alter table events detach partition events_1;
drop table events;
alter publication campfire set (publish = 'insert, update, delete, truncate');
alter publication campfire owner to campfire_relay;
drop publication campfire;
rollback;

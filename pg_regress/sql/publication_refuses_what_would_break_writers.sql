\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create table log (line text);
select campfire.publish('campfire', 'log');
\echo :LAST_ERROR_SQLSTATE
select campfire.publish('campfire', 'conversations', '{customer_name}');
\echo :LAST_ERROR_SQLSTATE
select campfire.publish('campfire', 'realtime_conversations', '{id,status}');
\echo :LAST_ERROR_SQLSTATE
create view seen as select 1 as one;
select campfire.publish('campfire', 'seen');
create unlogged table fleeting (id int primary key);
select campfire.publish('campfire', 'fleeting');
select campfire.publish('campfire', 'conversations', '{id,nothing}');
\echo :LAST_ERROR_SQLSTATE
select campfire.publish('nothing', 'conversations');
\echo :LAST_ERROR_SQLSTATE
select campfire.publish('campfire', null);
create publication everything for all tables;
select campfire.publish('everything', 'conversations');
rollback;

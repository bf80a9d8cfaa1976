\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create table orders (id int primary key, detail jsonb);
alter publication campfire rename to live;
select name, control_of from campfire.managed_publications order by 1;
select pubname from pg_publication order by 1;
alter publication live add table orders;
\echo :LAST_ERROR_SQLSTATE
select * from campfire.check_publication('live') union all select * from campfire.check_publication('live_control');
select campfire.create_publication('live');
-- The twin alone, and a name that leaves no room for the twin's.
alter publication live_control rename to other_control;
alter publication live rename to a123456789012345678901234567890123456789012345678901234567;
-- A name that is managed, taken by another publication while campfire's is gone.
drop publication live, live_control;
create publication mine for table orders;
alter publication mine rename to live;
\echo :LAST_ERROR_SQLSTATE
create publication live for all tables;
\echo :LAST_ERROR_SQLSTATE
-- And back by the hint's.
select campfire.create_publication('live');
-- Tables may be renamed and moved.
alter table messages rename to texts;
alter table texts rename to messages;
rollback;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
select campfire.publish('campfire', 'conversations', '{id,organization_id,customer_name,customer_email,created_at,updated_at,assignee_id}');
select campfire.create_publication();
-- What was added to a list stays, what is missing comes back.
select campfire.column_list('campfire', 'conversations');
alter publication campfire drop table messages;
alter publication campfire_control drop table agents;
select campfire.create_publication();
select campfire.column_list('campfire', 'messages'), campfire.column_list('campfire_control', 'agents');
drop publication campfire, campfire_control;
select campfire.create_publication();
select pubname, tablename from pg_publication_tables order by 1, 2;
-- Of tables of one's own.
create table orders (id int primary key, total numeric);
select campfire.create_publication('shop', '{orders}');
select * from campfire.managed_publications order by name;
select * from campfire.check_publication('shop');
select * from campfire.check_publication('shop_control');
-- Not one that campfire did not make.
create publication theirs;
select campfire.create_publication('theirs');
\echo :LAST_ERROR_SQLSTATE
select campfire.create_publication(repeat('x', 56));
\echo :LAST_ERROR_SQLSTATE
rollback;

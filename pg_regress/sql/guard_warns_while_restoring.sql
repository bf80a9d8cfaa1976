\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A parallel restore may publish a table before it makes the key; but never a complex column.
begin;
set application_name = 'pg_restore';
create table orders (id int not null, name text, detail jsonb);
alter publication campfire add table orders (id, name);
alter publication campfire drop table orders;
alter publication campfire add table orders;
\echo :LAST_ERROR_SQLSTATE
alter publication campfire add table orders (id, name);
alter table orders add primary key (id);
set application_name = 'psql';
alter table orders add column more text;
alter publication campfire drop table orders;
alter table orders drop constraint orders_pkey;
alter publication campfire add table orders (id, name);
\echo :LAST_ERROR_SQLSTATE
-- The index that routes deleted messages comes after the table as well.
alter publication campfire drop table messages;
alter table messages replica identity default;
set application_name = 'pg_restore';
alter publication campfire add table messages (id, conversation_id, organization_id, content);
set application_name = 'psql';
alter publication campfire drop table messages;
alter publication campfire add table messages (id, conversation_id, organization_id, content);
\echo :LAST_ERROR_SQLSTATE
rollback;

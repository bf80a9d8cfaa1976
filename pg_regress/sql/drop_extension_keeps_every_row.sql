\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
insert into organizations (name) values ('A');
insert into conversations (organization_id) select id from organizations;
\set VERBOSITY sqlstate
drop extension campfire;
set client_min_messages = warning;
drop extension campfire cascade;
select (select count(*) from organizations), (select count(*) from conversations), (select count(*) from realtime_conversations);
-- Without policies the tables are closed, not open.
set role authenticated;
select count(*) from conversations;
rollback;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A view could run code of its owner's choosing.
begin;
create view fake as select organization_id, user_id, active from agents;
select campfire.is_agent('fake');
\echo :LAST_ERROR_SQLSTATE
select campfire.is_agent('agents'), campfire.is_agent(null);
rollback;

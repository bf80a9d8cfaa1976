\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A view could run code of its owner's choosing.
begin;
create view fake as select organization_id, user_id, active from agents;
select campfire.is_agent('fake');
\echo :LAST_ERROR_SQLSTATE
select campfire.is_agent('agents'), campfire.is_agent(null);
rollback;

-- Nor does a table run code of its owner's as the one who asks: a deferred trigger would, when that one commits.
begin;
create role campfire_test_owner nologin;
create schema theirs authorization campfire_test_owner;
set role campfire_test_owner;
create table theirs.evidence (who name);
create table theirs.trap (id int);
create function theirs.spring() returns trigger language plpgsql as
$$ begin insert into theirs.evidence values (current_user); return null; end $$;
create constraint trigger spring after insert on theirs.trap deferrable initially deferred
for each row execute function theirs.spring();
create function theirs.lay() returns boolean language plpgsql as $$ begin insert into theirs.trap values (1); return true; end $$;
create table theirs.agents (organization_id uuid, user_id uuid, active boolean);
insert into theirs.agents values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', true);
create policy everybody on theirs.agents using (theirs.lay());
alter table theirs.agents enable row level security, force row level security;
reset role;
select set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000a1"}', true) is not null as set;
select campfire.is_agent('theirs.agents');
set constraints all immediate;
select * from theirs.evidence;
rollback;

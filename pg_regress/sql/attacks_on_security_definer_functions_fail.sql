\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- What a role could put in the way of functions that run with other rights: operators, functions and tables of its own,
-- in front of pg_catalog; and our trigger functions on tables of its own.
begin;
create schema evil;
create role campfire_regress_evil;
grant all on schema evil to campfire_regress_evil, service_role;
grant service_role to campfire_regress_evil;
set role campfire_regress_evil;
create table evil.loot (who text);
create function evil.take(a text, b text) returns boolean language plpgsql as $$
begin
  insert into evil.loot values (current_user);
  return true;
end $$;
create operator evil.~ (leftarg = text, rightarg = text, function = evil.take);
create operator evil.= (leftarg = text, rightarg = text, function = evil.take);
create function evil.format(text, variadic "any") returns text language internal as 'text_format';
create function evil.octet_length(text) returns int language plpgsql as $$ begin insert into evil.loot values (current_user); return 0; end $$;
create function evil.pg_current_xact_id() returns xid8 language sql as 'select ''1''::xid8';
set search_path = evil, pg_catalog;
select campfire.broadcast('news', 'e', '{}');
alter table evil.loot add column more jsonb;
select count(*) from evil.loot;
-- What a policy of its own does when it is planned: it cannot get back to who calls check().
set search_path = pg_catalog;
create function evil.elevate() returns void language plpgsql as $$
begin
  begin
    perform set_config('role', 'none', true);
  exception when others then raise warning '% %', sqlstate, sqlerrm;
  end;
  begin
    alter role campfire_regress_evil superuser;
  exception when others then raise warning '% %', sqlstate, sqlerrm;
  end;
end $$;
create function evil.grab() returns boolean language plpgsql immutable as $$
begin
  perform evil.elevate();
  raise exception 'tried as %', current_user;
end $$;
alter table evil.loot enable row level security;
create policy grabs on evil.loot for select using (evil.grab());
grant select on evil.loot to authenticated;
alter table evil.loot drop column more;
alter table evil.loot replica identity full;
reset role;
grant usage on schema evil to authenticated;
select campfire.publish('campfire', 'evil.loot');
select campfire.add_route('evil.loot', 'INSERT', 'loot', 'loot') > 0 as added;
select severity, subject, problem, mend from campfire.check() where subject = 'evil.loot';
select rolsuper from pg_roles where rolname = 'campfire_regress_evil';
set role campfire_regress_evil;
select campfire.plan_as('postgres'::regrole, 'select 1');
set search_path = evil, pg_catalog;
-- Another's trigger function is nobody's to attach.
\set VERBOSITY sqlstate
create trigger t after insert on evil.loot for each statement execute function campfire.routes_changed();
create trigger t after insert on evil.loot for each row execute function campfire.sync_realtime_conversations();
create trigger t after insert on evil.loot for each statement execute function campfire.touch_conversations();
create trigger t after insert on evil.loot for each row execute function campfire.broadcast_realtime_message();
create event trigger t on ddl_command_end execute function campfire.guard_publications();
-- The registries, the keys and the guard are closed to writing.
update campfire.settings set value = '1' where name = 'broadcast_bytes_max';
insert into campfire.route_overrides values ('public', 11, false);
insert into campfire.user_routes (relation, operation, channel, event, columns) values ('evil.loot', 'INSERT', 'c', 'e', '{who}');
delete from campfire.broadcast_keys;
delete from campfire.managed_publications;
alter event trigger campfire_guard disable;
drop event trigger campfire_guard;
create function campfire.mine() returns int language sql as 'select 1';
alter schema campfire rename to theirs;
rollback;

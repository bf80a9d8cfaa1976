\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A superuser installs into a schema of somebody else's, who has put functions and operators there that fit better than
-- those of Postgres.
begin;
create role campfire_test_owner nologin;
create schema theirs authorization campfire_test_owner;
set role campfire_test_owner;
create table theirs.evidence (what text, who name);
grant insert on theirs.evidence to public;
create function theirs.note(what text) returns boolean language plpgsql as
$$ begin insert into theirs.evidence values (what, current_user); return true; end $$;
create function theirs.format(a text, b regnamespace) returns text language plpgsql as
$$ begin perform theirs.note('format'); return 'select 1'; end $$;
create function theirs.format(a text, b name, c regclass, d text) returns text language plpgsql as
$$ begin perform theirs.note('format'); return 'select 1'; end $$;
create function theirs.same(a oid, b regclass) returns boolean language plpgsql as $$ begin return theirs.note('oid = regclass'); end $$;
create function theirs.same(a oid, b regrole) returns boolean language plpgsql as $$ begin return theirs.note('oid = regrole'); end $$;
create function theirs.same(a oid, b regprocedure) returns boolean language plpgsql as $$ begin return theirs.note('oid = regprocedure'); end $$;
create function theirs.same(a name, b text) returns boolean language plpgsql as $$ begin return theirs.note('name = text'); end $$;
create function theirs.put(a text, b text) returns text language plpgsql as $$ begin perform theirs.note('text || text'); return a; end $$;
create operator theirs.= (leftarg = oid, rightarg = regclass, function = theirs.same);
create operator theirs.= (leftarg = oid, rightarg = regrole, function = theirs.same);
create operator theirs.= (leftarg = oid, rightarg = regprocedure, function = theirs.same);
create operator theirs.= (leftarg = name, rightarg = text, function = theirs.same);
create operator theirs.|| (leftarg = text, rightarg = text, function = theirs.put);
create function theirs.now() returns timestamptz language plpgsql as $$ begin perform theirs.note('now'); return '2000-01-01'; end $$;
create function theirs.gen_random_uuid() returns uuid language plpgsql as $$ begin perform theirs.note('uuid'); return null; end $$;
reset role;
select campfire.install('theirs');
select * from theirs.evidence;
-- All of it is there.
select count(*) as policies, count(*) filter (where obj_description(p.oid, 'pg_policy') like 'campfire: %') as with_comment
from pg_policy as p join pg_class as c on c.oid = p.polrelid where c.relnamespace = 'theirs'::regnamespace;
select r, has_schema_privilege(r, 'theirs', 'usage') as usage from unnest('{anon,authenticated,service_role,campfire_relay}'::name[]) as r;
insert into theirs.organizations (name) values ('Acme');
select count(*) from theirs.evidence;
-- Run again, on what came back without the registries.
delete from campfire.installations where schema_name = 'theirs';
select campfire.install('theirs');
select * from theirs.evidence;
rollback;

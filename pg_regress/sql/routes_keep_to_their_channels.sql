\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A template says which channels it makes, whatever its columns hold: a row never chooses the channel of an organization.
begin;
set client_min_messages = warning;
create table loud (id int primary key, topic text, shop uuid);
select campfire.publish('campfire', 'loud');
select campfire.add_route('loud', 'INSERT', '{topic}', 'message:created');
\echo :LAST_ERROR_SQLSTATE
create function pg_temp.verdict(channel text) returns text language plpgsql as $$
begin
  perform campfire.add_route('loud', 'INSERT', channel, 'loud');
  return 'added';
exception when others then
  return sqlstate || ': ' || sqlerrm;
end $$;
select c as channel, pg_temp.verdict(c) as verdict from unnest(array[
  '{topic}', '{id}', '{shop}:x', 'bcast:{topic}', 'o{topic}', 'or{topic}', 'org{topic}', 'b{topic}', 'bcast{topic}', 'bcast:o{topic}',
  'bcast:org{topic}', 'org:{shop}{topic}', 'org:{topic}', 'bcast:bcast:{topic}', 'B{topic}', 'Org{topic}', 'orgs{topic}', 'shop:{topic}', 'bcast:shop:{topic}',
  'order{id}', 'bcaster{id}', 'org:10000000-0000-4000-8000-000000000001:conv:{topic}']) with ordinality as u (c, n) order by n;
select campfire.drop_route(id) from campfire.routes where not builtin;

-- One that was there before is named, and what is offered ends it.
insert into campfire.user_routes (relation, operation, channel, event, columns, known_as)
values ('loud', 'INSERT', 'bcast:{topic}', 'loud', '{id}', 'public.loud');
select regexp_replace(problem, '[0-9]+', 'ID') as problem, regexp_replace(fix, '[0-9]+', 'ID') as fix from campfire.check_publication();
do $$ begin execute (select fix from campfire.check_publication()); end $$;
select count(*) from campfire.check_publication();
-- Also where its table is gone: what is offered can be run.
insert into campfire.user_routes (relation, operation, channel, event, columns, known_as)
values ('loud', 'INSERT', '{topic}', 'loud', '{id}', 'public.loud');
select campfire.unpublish('campfire', 'loud');
drop table loud;
create table loud (id int primary key, topic text);
do $$ begin execute (select fix from campfire.check_publication()); end $$;
select count(*) from campfire.check_publication();
rollback;

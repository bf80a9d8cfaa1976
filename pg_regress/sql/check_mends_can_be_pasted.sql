\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Everything is broken in its own way; what campfire.check() offers is pasted, until it has nothing to say.
\getenv directory PG_ABS_BUILDDIR
\set mends :directory '/results/mends.sql'
set client_min_messages = warning;
select * from campfire.check();
alter table campfire.user_routes alter id restart with 3000; -- so that ids below are always the same
create table disabled (id int primary key, detail jsonb);
create table untriggered (id int primary key, detail jsonb);
create table unregistered (id int primary key, detail jsonb);
create table gone (id int primary key, detail jsonb);
create table misfiled (id int primary key, detail jsonb);
create table unidentified (id int primary key, note text);
create table unpublished (id int primary key, note text);
create table interrupted (id int primary key, detail jsonb);
create table sold (id int primary key, shop text, note text);
alter table sold replica identity full;
call campfire.make_live('disabled', 'disabled:{id}', 'd');
call campfire.create_projection('untriggered');
call campfire.create_projection('unregistered');
call campfire.make_live('gone', 'gone:{id}', 'g');
call campfire.create_projection('misfiled');
select campfire.publish('campfire', 'realtime_misfiled'), campfire.publish('campfire', 'unidentified'), campfire.publish('campfire', 'unpublished');
select campfire.add_route('unpublished', 'INSERT', 'unpublished:{id}', 'u') > 0 as added;
create policy everybody on campfire.private_channels for select to authenticated using (true);
select * from campfire.check();

-- A public channel that no relay lets anybody join.
set client_min_messages = error;
select campfire.add_route('realtime_misfiled', 'INSERT', 'misfiled:{id}', 'm', public => true) > 0 as added;
reset client_min_messages;
set client_min_messages = warning;
select 'made' from pg_create_logical_replication_slot('campfire_regress_check', 'pgoutput');
insert into campfire.slots (slot_name, system_identifier, timeline, publication_names, publication_oids, publication_xmins, public_channels)
values ('campfire_regress_check', '', 1, '{}', '{}', '{}', false);
-- Projections, identities, publications, and the guard itself.
alter event trigger campfire_guard disable;
alter event trigger campfire_projections disable;
alter table disabled disable trigger sync_realtime_disabled_trigger;
insert into disabled values (1, '{}');
drop trigger sync_realtime_untriggered_trigger on untriggered;
insert into untriggered values (1, '{}');
delete from campfire.projection_registry where source = 'unregistered'::regclass;
drop table gone;
alter table realtime_misfiled replica identity default;
alter table unidentified replica identity nothing;
select campfire.unpublish('campfire', 'unpublished');
do $$ begin perform campfire.start_projection('interrupted', null); perform campfire.note_live('interrupted'); end $$;
update campfire.installations set version = '0.0.0';
grant campfire_sender to anon;
select severity, subject, problem, mend from campfire.check() order by problem collate "C", mend;
\t on
\a
\o :mends
select mend from campfire.check();
\o
\i :mends
\o :mends
select mend from campfire.check();
\o
\i :mends
\t off
\a
select * from campfire.check();
-- It is in order, and not only said to be.
select (select count(*) from campfire.verify_projection('disabled')) as disabled, (select count(*) from campfire.verify_projection('untriggered')) as untriggered;
insert into unregistered values (1, '{}');
select * from realtime_unregistered;
update unidentified set note = 'x';
select public, event from campfire.routes where not builtin order by id;
select (select version from campfire.installations) = (select extversion from pg_extension where extname = 'campfire') as is_current;
select pg_drop_replication_slot('campfire_regress_check');
delete from campfire.slots where slot_name = 'campfire_regress_check';
alter table unidentified replica identity default;

-- Nobody may join; then policies that fail, for one reason each.
drop table campfire.private_channels;
call campfire.make_live('sold', 'shop:{shop}', 'sale');
select severity, subject, problem, mend from campfire.check() order by problem collate "C", mend;
drop table campfire.private_channels;
select severity, subject, left(mend, 44) as mend from campfire.check();
select campfire.install_private_channels();
create table members (shop text, person text);
create schema hidden;
create function hidden.staff() returns boolean language sql stable as 'select true';
revoke all on function hidden.staff() from public;
create table hidden.managers (person text);
create policy by_table on campfire.private_channels for select to authenticated
  using (exists (select from members where shop = split_part(campfire.topic(), ':', 2) and person = campfire.claim('sub')));
create policy by_function on campfire.private_channels for insert to anon with check (hidden.staff());
alter table sold enable row level security;
grant select (id, shop) on sold to authenticated;
create policy by_hidden_table on sold for select to authenticated using (exists (select from hidden.managers where person = campfire.claim('sub')));
create policy folded on read_receipts as restrictive to anon using (1 / 0 = 1) with check (true);
create policy recursive on conversations for select to authenticated using (exists (select from conversations as c where c.id = conversations.id));
select severity, subject, problem, mend from campfire.check() order by problem collate "C", mend;
\t on
\a
\o :mends
select mend from campfire.check();
\o
\i :mends
\t off
\a
select * from campfire.check();
-- Rights of the caller, and of the transaction, are as they were.
select current_user = session_user as unchanged, has_table_privilege('authenticated', 'members', 'insert') as may_insert;
drop policy recursive on conversations;
drop policy folded on read_receipts;
drop policy by_table on campfire.private_channels;
drop policy by_function on campfire.private_channels;
select campfire.make_live_undo('sold');
drop table sold, members;
drop schema hidden cascade;

-- A publication that was dropped with all that it carried; schema realtime, of which a part is gone.
drop publication campfire;
select campfire.install_supabase_api();
drop trigger keep_one_realtime_topic_trigger on realtime.messages;
create table nobody_reads (person text);
create policy wrong on realtime.messages for select to anon using (topic = (select person from nobody_reads));
select severity, subject, problem, mend from campfire.check() order by problem collate "C", mend;
\t on
\a
\o :mends
select mend from campfire.check();
\o
\i :mends
\o :mends
select mend from campfire.check();
\o
\i :mends
\t off
\a
select * from campfire.check();
select campfire.remove_supabase_api();
drop table nobody_reads;
select campfire.drop_route(id) from campfire.routes where not builtin;
select campfire.make_live_undo(source) from campfire.live_tables;
select campfire.drop_projection(source, unpublish => true) from campfire.projections where source <> 'conversations'::regclass;
select campfire.unpublish('campfire', r.relation) from (select prrelid::regclass as relation from pg_publication_rel) as r where r.relation::text like 'un%';
drop table campfire.private_channels; -- which the first private route made
drop table disabled, untriggered, unregistered, misfiled, unidentified, unpublished, interrupted;
select * from campfire.check();
set role anon;
select * from campfire.check();
\echo :LAST_ERROR_SQLSTATE
set role campfire_relay;
select * from campfire.check();
reset role;

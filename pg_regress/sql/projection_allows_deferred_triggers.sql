\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A DBA may hang deferred constraints on the mirror; they must not fail the writes to its source.
begin;
create table seen (conversation uuid);
create function note_it() returns trigger language plpgsql as $$ begin insert into seen values (new.id); return null; end $$;
create constraint trigger noted after insert on realtime_conversations deferrable initially deferred
for each row execute function note_it();
insert into organizations (id, name) values ('00000000-0000-0000-0000-00000000000a', 'A');
insert into conversations (id, organization_id) values ('00000000-0000-0000-0000-00000000000c', '00000000-0000-0000-0000-00000000000a');
select count(*) from seen;
set constraints all immediate;
select * from seen;
rollback;

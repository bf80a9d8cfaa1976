\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create table notes (conversation_id uuid, created_at timestamptz);
create trigger touch after insert on notes for each row execute function campfire.touch_conversations();
insert into notes default values;
\echo :LAST_ERROR_SQLSTATE
create schema other;
alter table notes set schema other;
drop trigger touch on other.notes;
create trigger touch after insert on other.notes referencing new table as inserted
for each statement execute function campfire.touch_conversations();
insert into other.notes default values;
\echo :LAST_ERROR_SQLSTATE
rollback;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- The trigger function of the reference's documentation, as it stands there.
begin;
select campfire.install_supabase_api();
create table notes (id int primary key, body text);
create function notes_changed() returns trigger language plpgsql as $$
begin
  perform realtime.broadcast_changes('room:7', tg_op, tg_op, tg_table_name, tg_table_schema, new, old, coalesce(tg_argv[0], 'ROW'));
  return null;
end $$;
create trigger notes_changed after insert or update or delete on notes for each row execute function notes_changed();
insert into notes values (1, 'old');
update notes set body = 'new';
delete from notes;
select event, topic, private, payload - 'id' as payload from realtime.messages
order by case event when 'INSERT' then 1 when 'UPDATE' then 2 else 3 end;
-- What is wrong with the trigger is a warning, too: nothing ends the statement that fired it.
create trigger wrong after insert on notes for each row execute function notes_changed('STATEMENT');
insert into notes values (2, 'b');
\echo :LAST_ERROR_SQLSTATE
select realtime.broadcast_changes('room:7', 'e', 'TRUNCATE', 'notes', 'public', null::notes, null::notes);
\echo :LAST_ERROR_SQLSTATE
rollback;

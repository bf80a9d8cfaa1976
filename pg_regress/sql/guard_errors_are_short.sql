\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT always
-- Message, detail and hint; not the functions in which it was found.
begin;
create table shops (id int primary key, name text, data jsonb);
select campfire.publish('campfire', 'shops', '{id,name}');
alter table shops replica identity full;
\echo :LAST_ERROR_SQLSTATE
alter publication campfire set table shops;
\echo :LAST_ERROR_SQLSTATE
alter publication campfire_control rename to other;
\echo :LAST_ERROR_SQLSTATE
alter table shops drop column name cascade;
\echo :LAST_ERROR_SQLSTATE
drop table realtime_conversations;
\echo :LAST_ERROR_SQLSTATE
alter table conversations drop column customer_name;
\echo :LAST_ERROR_SQLSTATE
alter publication campfire rename to a_name_that_leaves_no_room_for_the_suffix_of_its_twin_at_all;
\echo :LAST_ERROR_SQLSTATE
rollback;
begin isolation level repeatable read;
alter publication campfire set (publish = 'insert');
\echo :LAST_ERROR_SQLSTATE
rollback;
begin;
-- Where it is caught, the context of what follows is as ever.
create function caught() returns text language plpgsql as $$
begin
  begin
    drop table realtime_conversations;
  exception when object_not_in_prerequisite_state then
    raise notice 'caught: %', sqlerrm;
  end;
  raise exception 'later';
end $$;
select caught();
rollback;

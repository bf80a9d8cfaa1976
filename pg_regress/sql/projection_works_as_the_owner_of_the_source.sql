\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Not as the superuser who owns the function: what an owner put on the mirror must not gain his rights.
begin;
create role campfire_test_owner;
alter table conversations owner to campfire_test_owner;
alter table realtime_conversations owner to campfire_test_owner;
create table seen (who name, who_called name);
grant insert on seen to campfire_test_owner;
create function spy() returns trigger language plpgsql as $$
begin
  insert into public.seen values (current_user, session_user);
  if new.customer_name = 'trouble' then
    raise exception 'trouble';
  end if;
  return new;
end $$;
create trigger spy before insert on realtime_conversations for each row execute function spy();
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
select current_user as caller \gset
insert into conversations (organization_id) values ('00000000-0000-4000-8000-00000000000a');
select who, who_called = session_user as called_by_us from seen;
-- An error gives the caller his own rights back, also when it is caught.
do $$
begin
  insert into public.conversations (organization_id, customer_name) values ('00000000-0000-4000-8000-00000000000a', 'trouble');
exception when raise_exception then
  raise notice 'caught, and we are % again', case when current_user = session_user then 'ourselves' else current_user::text end;
end $$;
insert into conversations (organization_id, customer_name) values ('00000000-0000-4000-8000-00000000000a', 'trouble');
select current_user = :'caller' as restored;
-- Nor can it take another role.
create or replace function spy() returns trigger language plpgsql as $$
begin
  execute 'reset role';
  return new;
end $$;
insert into conversations (organization_id) values ('00000000-0000-4000-8000-00000000000a');
\echo :LAST_ERROR_SQLSTATE
rollback;

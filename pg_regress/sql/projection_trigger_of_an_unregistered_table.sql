\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create table orders (id int primary key);
create trigger hijack after insert on orders for each row execute function campfire.sync_realtime_conversations();
-- Writes go on: a restore of a part leaves such tables behind. The warning comes once a session.
insert into orders values (1);
insert into orders values (2);
create trigger wrong before insert on conversations for each row execute function campfire.sync_realtime_conversations();
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into conversations (organization_id) values ('00000000-0000-4000-8000-00000000000a');
\echo :LAST_ERROR_SQLSTATE
-- Nobody else can hang it anywhere.
create role campfire_test_user;
create table theirs (id int);
alter table theirs owner to campfire_test_user;
set role campfire_test_user;
create trigger hijack after insert on theirs for each row execute function campfire.sync_realtime_conversations();
rollback;

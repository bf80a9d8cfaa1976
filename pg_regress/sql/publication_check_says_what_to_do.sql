\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Each way to spoil a publication is found, and the fix, pasted, mends it.
begin;
-- The guard would not let it come to this.
alter event trigger campfire_guard disable;
alter event trigger campfire_guard_drop disable;
set client_min_messages = warning;
create table kinds (kind int primary key, detail jsonb);
create function pg_temp.spoil(damage text) returns table (problem text, fix text, left_over bigint) language plpgsql as $$
declare
  found record;
begin
  begin
    execute damage;
    for found in select c.problem, c.fix from campfire.check_publication('campfire') as c
                 union all select c.problem, c.fix from campfire.check_publication('campfire_control') as c loop
      problem := found.problem;
      fix := found.fix;
      if exists (select from campfire.check_publication('campfire') as c where c.fix = found.fix
                 union all select from campfire.check_publication('campfire_control') as c where c.fix = found.fix) and found.fix not like 'Restore %' then
        execute found.fix;
      end if;
      left_over := (select count(*) from campfire.check_publication('campfire'))
                 + (select count(*) from campfire.check_publication('campfire_control'));
      return next;
    end loop;
    raise exception sqlstate 'UNDO1';
  exception when sqlstate 'UNDO1' then null;
  end;
end $$;
select n, s.* from (values
  (1, 'drop publication campfire'),
  (2, 'drop publication campfire_control'),
  (3, 'drop publication campfire; create publication campfire for all tables'),
  (4, 'drop publication campfire_control; create publication campfire_control for tables in schema public'),
  (5, 'alter publication campfire set (publish = ''insert'')'),
  (6, 'alter publication campfire drop table messages'),
  (7, 'alter publication campfire_control drop table agents'),
  (8, 'alter publication campfire drop table messages; alter publication campfire add table messages (id, conversation_id, organization_id)'),
  (9, 'alter publication campfire drop table conversations; alter publication campfire add table conversations'),
  (10, 'alter publication campfire drop table conversations; alter publication campfire add table conversations (id, organization_id, customer_name, customer_email, created_at, updated_at, status)'),
  (11, 'alter publication campfire drop table messages; alter publication campfire add table messages where (id is not null)'),
  (12, 'alter table realtime_conversations replica identity nothing'),
  (13, 'alter publication campfire drop table realtime_conversations; alter publication campfire add table realtime_conversations (id, organization_id, customer_name, customer_email, status, priority, assignee_id, created_at, updated_at); alter table realtime_conversations add column more int'),
  (14, 'alter table realtime_conversations add column detail jsonb'),
  (15, 'alter publication campfire add table kinds'),
  (16, 'drop index messages_replica_identity'),
  (17, 'alter table messages drop column sender_email cascade'),
  (18, 'alter table realtime_conversations replica identity default'),
  (19, 'alter table messages replica identity default'),
  (20, 'alter table read_receipts add column detail jsonb'),
  (21, 'drop policy agents_relay_select on agents; drop policy agents_service on agents'),
  (22, 'create policy second_factor on agents as restrictive to authenticated using (current_setting(''app.factors'', true) = ''2'')'),
  (23, 'revoke select on agents from campfire_relay, authenticated, service_role; revoke select (active) on agents from campfire_relay')
) as v (n, damage), pg_temp.spoil(damage) as s;
rollback;

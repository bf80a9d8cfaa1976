\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create schema "Chat ""Room""";
select campfire.install('Chat "Room"');
select source, mirror from campfire.projections order by source::text;
-- Routes of two installations have ids of their own.
select schema_name, min(id), max(id), count(*), count(distinct id) from campfire.routes group by schema_name order by schema_name;
select schemaname, tablename, attnames from pg_publication_tables where pubname like 'campfire%' and schemaname <> 'public' order by 2;
select * from campfire.check_publication('campfire');
select * from campfire.check_publication('campfire_control');
insert into "Chat ""Room""".organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into "Chat ""Room""".conversations (organization_id, customer_name, created_at, updated_at)
values ('00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01', '2020-01-01');
insert into "Chat ""Room""".messages (organization_id, conversation_id, content, sender_type)
select organization_id, id, 'hello', 'visitor' from "Chat ""Room""".conversations;
select customer_name, updated_at > now() - interval '1 minute' as touched from "Chat ""Room""".realtime_conversations;
select count(*) from public.realtime_conversations;
rollback;

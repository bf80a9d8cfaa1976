\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Secrets of identities, and who was verified by them: what each role sees and may change.
begin;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A'), ('00000000-0000-4000-8000-00000000000b', 'B');
insert into agents (organization_id, user_id, display_name) values
  ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', 'Ada');
insert into organization_secrets (id, organization_id, secret) values
  ('00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-00000000000a', repeat('a', 32)),
  ('00000000-0000-4000-8000-0000000000e2', '00000000-0000-4000-8000-00000000000b', repeat('b', 32));
insert into visitors (id, organization_id, external_id, name) values
  ('00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-00000000000a', '7', 'Vera'),
  ('00000000-0000-4000-8000-0000000000f2', '00000000-0000-4000-8000-00000000000b', '7', 'Bea');
insert into conversations (id, organization_id, visitor_id) values
  ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000f1');
-- A conversation is never a visitor's of another organization, and a customer is one.
insert into conversations (organization_id, visitor_id) values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000f2');
insert into visitors (organization_id, external_id) values ('00000000-0000-4000-8000-00000000000a', '7');
-- A secret that can be guessed is none.
insert into organization_secrets (id, organization_id, secret, valid_from)
values ('00000000-0000-4000-8000-0000000000e3', '00000000-0000-4000-8000-00000000000a', repeat('a', 31), '2020-01-01');
set role anon;
select set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1"}', true) is not null as claimed;
select count(*) from organization_secrets;
select count(*) from visitors;
select visitor_id from conversations;
update conversations set visitor_id = null;
insert into conversations (id, organization_id, visitor_id)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000f1');
set role authenticated;
select set_config('request.jwt.claims', '{"org_id": "00000000-0000-4000-8000-00000000000a", "sub": "00000000-0000-4000-8000-0000000000a1"}', true) is not null as claimed;
select id from organization_secrets;
select external_id, name from visitors;
select visitor_id from conversations;
update conversations set visitor_id = null;
insert into visitors (organization_id, external_id) values ('00000000-0000-4000-8000-00000000000a', '8');
update organizations set require_identity = true;
-- Server code replaces secrets, and reads none.
set role service_role;
select organization_id, valid_until from organization_secrets order by organization_id;
select secret from organization_secrets;
insert into organization_secrets (organization_id, secret) values ('00000000-0000-4000-8000-00000000000a', repeat('c', 32));
update organization_secrets set valid_until = '2020-01-01' where id = '00000000-0000-4000-8000-0000000000e1';
update organization_secrets set secret = repeat('d', 32) where id = '00000000-0000-4000-8000-0000000000e1';
delete from organization_secrets where id = '00000000-0000-4000-8000-0000000000e2';
select count(*) from visitors;
set role campfire_relay;
select secret, valid_until from organization_secrets order by secret;
insert into organization_secrets (organization_id, secret) values ('00000000-0000-4000-8000-00000000000a', repeat('e', 32)) returning secret = repeat('e', 32) as written;
update conversations set visitor_id = null where id = '00000000-0000-4000-8000-0000000000c1' returning visitor_id;
reset role;
-- Who is deleted leaves the conversation.
update conversations set visitor_id = '00000000-0000-4000-8000-0000000000f1';
delete from visitors where id = '00000000-0000-4000-8000-0000000000f1';
select id, organization_id, visitor_id from conversations;
-- Nothing of it is published.
select c.relname, a.attname from pg_publication_rel as r
join pg_class as c on c.oid = r.prrelid
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and (r.prattrs is null or a.attnum = any (r.prattrs))
where c.relname in ('visitors', 'organization_secrets') or a.attname = 'visitor_id';
rollback;

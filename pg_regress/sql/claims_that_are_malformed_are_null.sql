\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
create function pg_temp.claims(claims text) returns text language plpgsql as $$
begin
  perform set_config('request.jwt.claims', claims, true);
  return concat_ws(' ', coalesce(campfire.claim_organization()::text, '-'), coalesce(campfire.claim_conversation()::text, '-'),
    coalesce(campfire.claim_subject()::text, '-'));
end $$;
select campfire.claim_organization() is null and campfire.claim('sub') is null as unset_is_null;
select n, pg_temp.claims(c) from unnest(array[
  '{"org_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1", "sub": "00000000-0000-4000-8000-0000000000a1"}',
  '{"org_id": "00000000-0000-4000-8000-00000000000A", "sub": "service"}',
  '', '{', 'null', '[]', '"x"', '{"org_id": 1, "sub": null, "conversation_id": {"a": "b"}}',
  '{"org_id": "{00000000-0000-4000-8000-00000000000a}"}',
  '{"org_id": "00000000-0000-4000-8000-00000000000a\u0000"}',
  '{"org_id": "00000000-0000-4000-8000-00000000000a"} trailing',
  repeat('[', 100000)]) with ordinality as u (c, n) order by n;
-- Integers are as good as texts; what else there is, is no claim to compare with.
select set_config('request.jwt.claims', '{"n": 7, "minus": {"n": -7}, "large": 12345678901234567890123, "half": 1.5, "yes": true, "list": [7]}', true) is not null as is_set;
select array(select coalesce(campfire.claim(p), '-') from unnest(array['n', 'minus.n', 'minus', 'large', 'half', 'yes', 'list']) with ordinality as u (p, n) order by n) as claims;
-- Where a claim stands is a setting.
update campfire.settings set value = 'app_metadata.org_id' where name = 'claim_organization';
select pg_temp.claims('{"org_id": "x", "app_metadata": {"org_id": "00000000-0000-4000-8000-00000000000a"}}');
rollback;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Any role may set the claims of its session and ask for them. What is not asked for is skipped, and a document that no
-- token can hold is none.
begin;
create function pg_temp.padded(bytes int) returns text language sql as $$
  select '{"pad": [' || repeat('{"a": [1, "x", null]}, ', bytes / 23) || '0], "sub": "found"}' $$;
select campfire.claim_from_json(pg_temp.padded(1000000), 'sub') as below, campfire.claim_from_json(pg_temp.padded(1100000), 'sub') as above;
set role anon;
set statement_timeout = '20s';
select campfire.claim_from_json(pg_temp.padded(40000000), 'sub') as far_above;
select set_config('request.jwt.claims', pg_temp.padded(40000000), true) is not null as set;
select campfire.claim('sub'), campfire.claim_subject(), campfire.claim_organization();
reset statement_timeout;
-- The last of equal keys counts, at every step, as in jsonb and in the relay.
select d, campfire.claim_from_json(d, 'a.b') as claim, d::jsonb #>> '{a,b}' as jsonb from unnest(array[
  '{"a": {"b": "1"}, "a": {"b": "2"}}', '{"a": {"b": "1"}, "a": {"c": "2"}}', '{"a": {"b": "1"}, "a": 7}', '{"a": {"b": "1", "b": "2"}}',
  '{"a": {"b": ["x"]}}', '{"a": {"b": "ü \u00fc \ud83d\ude00"}}', '{"\u0061": {"b": "escaped"}}']) as d;
-- What is skipped must be JSON all the same.
select d, campfire.claim_from_json(d, 'a') as claim from unnest(array[
  '{"a": "1", "b": }', '{"a": "1", "b": [1,]}', '{"a": "1"', '{"a": "1"}}', '{"a": "1", "b": tru}', '{"a": "1", "b": "\q"}', '{"a": "1", 2: 3}',
  '["a"]', '"a"', '{"": "1"}', '{"a": "1", "b": 1e999}']) as d;
select campfire.claim_from_json('{"": "empty"}', '') as empty_name, campfire.claim_from_json('{"a": "1"}', 'a.') as beyond;
rollback;

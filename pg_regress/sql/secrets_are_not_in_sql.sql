\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- pgaudit and auto_explain log the parameters of functions and the variables of PL/pgSQL, also to a log that more people
-- read than the table. So nothing in SQL takes, keeps or gives a key: it is read where it signs, in Rust.
select p.oid::regprocedure as function, l.lanname as language
from pg_proc as p join pg_language as l on l.oid = p.prolang
where p.pronamespace in ('campfire'::regnamespace, 'public'::regnamespace)
  and (p.prosrc ~ 'broadcast_keys' or pg_get_function_sqlbody(p.oid) ~ 'broadcast_keys') order by 1;
-- No bytes go in or out, and no row of keys.
select p.oid::regprocedure as function from pg_proc as p
where p.pronamespace = 'campfire'::regnamespace
  and (p.prorettype || coalesce(p.proallargtypes, p.proargtypes::oid[])) && array['bytea'::regtype, 'campfire.broadcast_keys'::regtype]::oid[]
order by 1;
-- rotate_broadcast_key() makes the key in one statement, and keeps none in a variable.
select regexp_matches(prosrc, '^\s*declare\s+(.*?)\s+begin') as variables, prosrc ~ 'returning id into made' as takes_the_number
from pg_proc where oid = 'campfire.rotate_broadcast_key()'::regprocedure;
-- Without a key nothing can be signed, and that is said.
begin;
delete from campfire.broadcast_keys;
select campfire.broadcast('news', 'e', '{}');
\echo :LAST_ERROR_SQLSTATE
select campfire.rotate_broadcast_key() > 1 as rotated;
select campfire.broadcast('news', 'e', '{}');
rollback;

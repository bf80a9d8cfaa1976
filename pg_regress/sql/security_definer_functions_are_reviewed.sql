\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A function that is new here must be looked at: whose rights it takes, who may call it, what it finds its names by.
select p.oid::regprocedure as function, p.proconfig, coalesce(p.proacl::text like '%{=X/%' or p.proacl::text like '%,=X/%' or p.proacl is null, true) as public_may_call
from pg_proc as p
where p.pronamespace = 'campfire'::regnamespace and p.prosecdef
order by p.oid::regprocedure::text collate "C";
-- plpgsql looks names up when it runs: its search_path is pinned, but for the steps of install().
select p.oid::regprocedure as function from pg_proc as p join pg_language as l on l.oid = p.prolang
where p.pronamespace = 'campfire'::regnamespace and l.lanname = 'plpgsql'
  and not coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false) order by p.oid::regprocedure::text collate "C";
-- SQL functions are bound to what they name when they are made.
select p.oid::regprocedure as function from pg_proc as p join pg_language as l on l.oid = p.prolang
where p.pronamespace = 'campfire'::regnamespace and l.lanname = 'sql' and p.prosqlbody is null;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A policy that is new or changed here must be looked at.
select tablename, policyname, roles, cmd, permissive, qual, with_check
from pg_policies order by schemaname, tablename, policyname;
-- Tables of ours without row-level security.
select c.oid::regclass from pg_class as c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relrowsecurity order by 1;
-- Who may do what on them.
select c.relname, a.grantee::regrole, string_agg(a.privilege_type, ',' order by a.privilege_type)
from pg_class as c cross join lateral aclexplode(c.relacl) as a
where c.relnamespace = 'public'::regnamespace and a.grantee <> c.relowner and c.relkind in ('r', 'p')
group by 1, 2 order by c.relname, a.grantee::regrole::text collate "C";
select c.relname, a.grantee::regrole, a.privilege_type, string_agg(t.attname, ',' order by t.attnum)
from pg_class as c join pg_attribute as t on t.attrelid = c.oid cross join lateral aclexplode(t.attacl) as a
where c.relnamespace = 'public'::regnamespace group by 1, 2, 3 order by c.relname, a.grantee::regrole::text collate "C", 3;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
select p.oid::regprocedure as function, string_agg(r.rolname, ', ' order by r.rolname) as callers
from pg_proc as p
cross join (values ('campfire_relay'), ('anon'), ('authenticated'), ('service_role')) as r (rolname)
where p.pronamespace = 'campfire'::regnamespace and has_function_privilege(r.rolname, p.oid, 'execute')
group by p.oid order by p.oid::regprocedure::text collate "C";
select p.oid::regprocedure as nobody_elses from pg_proc as p
where p.pronamespace = 'campfire'::regnamespace and not has_function_privilege('campfire_relay', p.oid, 'execute') order by p.oid::regprocedure::text collate "C";
select c.oid::regclass as relation, a.grantee::regrole as grantee, string_agg(a.privilege_type, ',' order by a.privilege_type) as privileges
from pg_class as c cross join lateral aclexplode(c.relacl) as a
where c.relnamespace = 'campfire'::regnamespace and a.grantee <> c.relowner
group by c.oid, a.grantee order by c.oid::regclass::text collate "C", a.grantee::regrole::text collate "C";

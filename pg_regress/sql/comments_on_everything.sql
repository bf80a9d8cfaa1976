\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- What has no COMMENT: members of the extension, and what install() made.
select pg_describe_object(classid, objid, 0) from pg_depend
where refclassid = 'pg_extension'::regclass and refobjid = (select oid from pg_extension where extname = 'campfire') and deptype = 'e'
  and classid in ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass)
  and obj_description(objid, classid::regclass::name) is null
order by 1;
select c.oid::regclass from pg_class as c
where c.relnamespace = 'public'::regnamespace and obj_description(c.oid, 'pg_class') is null
  and not exists (select from pg_constraint where conindid = c.oid) order by c.oid::regclass::text collate "C";
select oid::regtype from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e' and obj_description(oid, 'pg_type') is null;
select tgname from pg_trigger where not tgisinternal and tgrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)
  and obj_description(oid, 'pg_trigger') is null;
select polname from pg_policy where obj_description(oid, 'pg_policy') is null;

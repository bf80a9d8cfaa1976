\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- What people call, and nothing that is only called by campfire or its relay.
select name from campfire.help where name in ('broadcast', 'install', 'create_projection', 'add_route', 'claim', 'emit', 'realtime_probe', 'mint_message_id') order by 1;
select name, arguments, comment ~ 'Example:' as has_example from campfire.help where name = 'broadcast';
select count(*) > 20 as many, sum(octet_length(name || arguments || comment)) < 60000 as short, bool_and(comment <> '') as all_say_something from campfire.help;
-- Everything that a role of the application may call is there, or says that it is internal.
select p.oid::regprocedure from pg_proc as p
where p.pronamespace = 'campfire'::regnamespace and not exists (select from campfire.help as h where h.name = p.proname)
  and obj_description(p.oid, 'pg_proc') !~ '^(Internal\.|For the relay)'
  and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) order by 1;
set role anon;
select count(*) > 20 as everybody_reads from campfire.help;
reset role;

\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
begin;
select name, value, default_value from campfire.settings order by name;
update campfire.settings set value = 'app_metadata.org_id' where name = 'claim_organization';
select name, value from campfire.settings order by name;
select * from campfire.setting_overrides;
update campfire.settings set value = null;
select name, value from campfire.settings order by name;
select * from campfire.setting_overrides;
update campfire.settings set value = 'a..b' where name = 'claim_organization';
\echo :LAST_ERROR_SQLSTATE
update campfire.settings set name = 'other' where name = 'claim_organization';
\echo :LAST_ERROR_SQLSTATE
set role anon;
update campfire.settings set value = 'sub';
rollback;

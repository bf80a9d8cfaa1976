-- Settings kept in the database. Defaults belong to the extension, changes to the database: only changes are dumped, so a
-- restored row never meets a row that the script has already made.

create table campfire.setting_defaults (
  name text primary key,
  value text not null,
  description text not null
);
comment on table campfire.setting_defaults is 'Internal. The settings this version knows. Read campfire.settings instead.';

create table campfire.setting_overrides (
  name text primary key,
  value text not null
);
comment on table campfire.setting_overrides is 'Internal. Settings changed in this database; dumped. Update campfire.settings instead.';
select pg_extension_config_dump('campfire.setting_overrides', '');

create view campfire.settings as
select d.name, coalesce(o.value, d.value) as value, d.value as default_value, d.description
from campfire.setting_defaults as d
left join campfire.setting_overrides as o on o.name = d.name;
comment on view campfire.settings is
  'Settings kept in the database. Change one by: update campfire.settings set value = ''app_metadata.org_id'' where name = ''claim_organization''; null restores the default.';
comment on column campfire.settings.name is 'Name of the setting.';
comment on column campfire.settings.value is 'Value in force. The only column that can be updated.';
comment on column campfire.settings.default_value is 'Value in force when nothing was set.';
comment on column campfire.settings.description is 'What the setting means.';

create function campfire.change_setting() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if (new.name, new.default_value, new.description) is distinct from (old.name, old.default_value, old.description) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('only the value of setting "%s" can be changed', old.name);
  end if;
  if new.value is null or new.value = new.default_value then
    delete from campfire.setting_overrides where name = new.name;
    new.value := new.default_value;
    return new;
  end if;
  if new.name like 'claim\_%' and new.value !~ '^[^.]+(\.[^.]+)*$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a path to a claim', new.value),
      hint = 'A path is one or more names separated by dots, such as app_metadata.org_id.';
  end if;
  if new.name like '%\_bytes\_max' and new.value !~ '^[1-9][0-9]{0,9}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a number of bytes', new.value),
      hint = 'Write digits alone, such as 65536.';
  end if;
  if new.name like '%\_hours' and new.value !~ '^[1-9][0-9]{0,5}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('"%s" is not a number of hours', new.value),
      hint = 'Write digits alone, such as 72.';
  end if;
  insert into campfire.setting_overrides as o (name, value) values (new.name, new.value)
  on conflict (name) do update set value = excluded.value;
  return new;
end
$$;
comment on function campfire.change_setting() is
  'Internal. Makes campfire.settings writable; raises 22023 for a malformed path or number, or a change of anything but the value.';

create trigger change_setting instead of update on campfire.settings
for each row execute function campfire.change_setting();

create function campfire.setting(name text) returns text
language sql stable strict parallel safe
return (select s.value from campfire.settings as s where s.name = setting.name);
comment on function campfire.setting(text) is
  'Value of a setting of campfire.settings; null if there is no such setting.';

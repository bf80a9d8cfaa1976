//! A version of the extension that never was: this one's script, and at its end what is otherwise in the toy. Its update
//! undoes that, as the update of a release would: with the library's functions, rights and comments.

use anyhow::{Context, Result};
use campfire_tests::server::Server;

/// The toy's version.
pub(super) const VERSION: &str = "0.0.1";

/// How the catalog tells what follows, at least one of each kind.
pub(super) const DIFFERENCES: [&str; 22] = [
    "column campfire.slots.mood",
    "column campfire.slots.public_channels",
    "comment column public_channels of table campfire.slots",
    "comment column slot_name of table campfire.slots",
    "constraint campfire.slots.slots_check",
    "dumped table campfire.setting_overrides",
    "event trigger campfire_guard_drop",
    "event trigger campfire_remember_schemas",
    "function campfire.public_channels_denied()",
    "function campfire.sync_realtime_conversations()",
    "function campfire.uuid_or_null(text)",
    "index campfire.slots_by_timeline",
    "member type campfire.mood",
    "policy campfire.slots.toy",
    "privilege function campfire.broadcast(text,text,jsonb) to service_role",
    "privilege function campfire.public_channels_denied() to postgres",
    "relation campfire.slots",
    "row campfire.builtin_routes",
    "sequence campfire.user_routes_id_seq",
    "trigger campfire.route_overrides.routes_changed",
    "type campfire.mood",
    "view campfire.help",
];

/// What stands at the end of the toy's script.
const OLDER: &str = "
create or replace function campfire.uuid_or_null(value text) returns uuid language sql immutable strict parallel safe return null;
drop function campfire.public_channels_denied();
alter table campfire.slots drop column public_channels, add column mood text, drop constraint slots_check;
comment on column campfire.slots.slot_name is 'Older.';
create index slots_by_timeline on campfire.slots (timeline);
alter table campfire.slots enable row level security;
create policy toy on campfire.slots using (true);
create type campfire.mood as enum ('good');
drop view campfire.help;
drop trigger routes_changed on campfire.route_overrides;
drop event trigger campfire_remember_schemas;
alter event trigger campfire_guard_drop disable;
update campfire.builtin_routes set event = 'message:posted' where key = 11;
alter sequence campfire.user_routes_id_seq maxvalue 1000;
select pg_extension_config_dump('campfire.setting_overrides', 'where true');
revoke execute on function campfire.broadcast(text, text, jsonb) from service_role;
";

/// Its update, but for what is taken from this version's script.
const NEWER: &str = "
alter table campfire.slots drop column mood, add column public_channels boolean, add constraint slots_check
  check (cardinality(publication_names) = cardinality(publication_oids)
     and cardinality(publication_names) = cardinality(publication_xmins));
drop index campfire.slots_by_timeline;
drop policy toy on campfire.slots;
alter table campfire.slots disable row level security;
drop type campfire.mood;
create trigger routes_changed after insert or update or delete on campfire.route_overrides
for each statement execute function campfire.routes_changed();
alter event trigger campfire_guard_drop enable;
update campfire.builtin_routes set event = 'message:created' where key = 11;
alter sequence campfire.user_routes_id_seq no maxvalue;
select pg_extension_config_dump('campfire.setting_overrides', '');
grant execute on function campfire.broadcast(text, text, jsonb) to service_role;
";

/// Statements of this version's script that belong into the update, by how they begin.
const TAKEN: [&str; 7] = [
    "comment on column campfire.slots.public_channels is",
    "comment on column campfire.slots.slot_name is",
    "create function campfire.public_channels_denied(",
    "comment on function campfire.public_channels_denied(",
    "create function campfire.uuid_or_null(",
    "create event trigger campfire_remember_schemas",
    "comment on event trigger campfire_remember_schemas",
];

/// What new functions and views need: the script's last part gives rights to all there are, and cannot be run twice.
const RIGHTS: &str = "
revoke all on function campfire.public_channels_denied() from public;
grant execute on function campfire.public_channels_denied() to campfire_relay;
grant select on campfire.help to public;
";

/// The toy's own script and its update, as they belong into a server's extension directory.
pub(super) fn scripts(server: &Server) -> Result<Vec<(String, String)>> {
    let current = super::VERSION;
    let path = server.extension_dir.join(format!("campfire--{current}.sql"));
    let script = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;

    let (library, library_now) = (format!("'campfire-{VERSION}'"), format!("'campfire-{current}'"));
    let toy = format!("{}{OLDER}", script.replace(&library_now, &library));

    let mut update = NEWER.to_owned();
    for start in TAKEN {
        let at = script.find(start).with_context(|| format!("the script has no {start:?}"))?;
        let end = script[at..].find(";\n").context("a statement has an end")?;
        update.push_str(&script[at..at + end + 2]);
    }
    // The functions of the library, and the view.
    for part in
        script.split("\n\n-- ").filter(|part| part.contains(&library_now) || part.starts_with("sql/help.sql"))
    {
        update.push_str(part.split_once('\n').map_or("", |(_, sql)| sql));
        update.push('\n');
    }
    let update = update.replace("create function", "create or replace function") + RIGHTS;
    Ok(vec![
        (format!("campfire--{VERSION}.sql"), toy),
        (format!("campfire--{VERSION}--{current}.sql"), update),
    ])
}

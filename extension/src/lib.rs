//! The extension of campfire: SQL, and the few functions that SQL does badly.
//!
//! Everything lives in schema `campfire`, which the first SQL file makes. Functions written here therefore bring
//! their own SQL, with the schema in it. `cargo xtask install` reads both from the text (`xtask/src/script.rs`): the
//! files in the order of this one, the functions right after the schema.
//!
//! `requires` names what must be there when a file's own statements run. What PL/pgSQL bodies name is looked for when
//! they are called, and is in no such list. Any order that `requires` allows makes the same, which `cargo xtask test
//! script` tries.

mod cache;
mod claims;
mod error;
mod event_name;
mod gate;
mod message_id;
mod owner;
mod projection;
mod refusal;
mod rls;
mod signing;
mod slot_guard;
mod spi;
mod touch;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../../sql/schema.sql", name = "schema", bootstrap);
extension_sql_file!("../../sql/settings.sql", name = "settings");
extension_sql_file!("../../sql/types.sql", name = "types");
extension_sql_file!(
    "../../sql/claims.sql",
    name = "claims",
    requires = ["settings", rls::claim_from_json, rls::is_agent]
);
extension_sql_file!("../../sql/channels.sql", name = "channels");
extension_sql_file!("../../sql/slots.sql", name = "slots");
extension_sql_file!("../../sql/chat/registry.sql", name = "chat_registry");
extension_sql_file!(
    "../../sql/projection/registry.sql",
    name = "projection_registry",
    requires = [
        projection::sync_realtime_conversations,
        projection::projection_registry_changed,
        projection::definition::projection_columns,
        owner::query_as_owner,
        owner::start_projection,
        owner::backfill_batch,
        owner::mend_projection,
        owner::change_projection,
        owner::choose_dropped_partitions,
        owner::plan_as,
        owner::require_no_transaction,
        refusal::refuse_command
    ]
);
extension_sql_file!(
    "../../sql/projection/definition.sql",
    name = "projection_definition",
    requires = ["projection_registry"]
);
extension_sql_file!(
    "../../sql/projection/make.sql",
    name = "projection_make",
    requires = ["projection_registry"]
);
extension_sql_file!("../../sql/projection/alter.sql", name = "projection_alter");
extension_sql_file!(
    "../../sql/projection/mend.sql",
    name = "projection_mend",
    requires = ["projection_registry", owner::drop_projection]
);
extension_sql_file!(
    "../../sql/projection/guard.sql",
    name = "projection_guard",
    requires = ["projection_registry"]
);
extension_sql_file!(
    "../../sql/projection/restore.sql",
    name = "projection_restore",
    requires = ["projection_definition"]
);
extension_sql_file!("../../sql/publication/registry.sql", name = "publication_registry");
extension_sql_file!(
    "../../sql/publication/identity.sql",
    name = "publication_identity",
    requires = ["chat_registry"]
);
extension_sql_file!(
    "../../sql/publication/publish.sql",
    name = "publication_publish",
    requires = ["types", "chat_registry"]
);
extension_sql_file!(
    "../../sql/publication/check.sql",
    name = "publication_check",
    requires = ["projection_registry", "publication_identity", "publication_publish"]
);
extension_sql_file!(
    "../../sql/publication/guard.sql",
    name = "publication_guard",
    requires = ["chat_registry"]
);
extension_sql_file!(
    "../../sql/publication/replace_table.sql",
    name = "publication_replace_table",
    requires = ["projection_registry"]
);
extension_sql_file!("../../sql/messages/keys.sql", name = "messages_keys", requires = [signing::emit]);
extension_sql_file!(
    "../../sql/messages/broadcast.sql",
    name = "messages_broadcast",
    requires = ["settings", "slots", signing::is_reserved_event]
);
extension_sql_file!("../../sql/routes/registry.sql", name = "routes_registry", requires = ["chat_registry"]);
extension_sql_file!(
    "../../sql/routes/gates.sql",
    name = "routes_gates",
    requires = [gate::gate_problem, gate::gate_columns]
);
extension_sql_file!(
    "../../sql/routes/announce.sql",
    name = "routes_announce",
    requires = ["routes_registry"]
);
extension_sql_file!(
    "../../sql/routes/add.sql",
    name = "routes_add",
    requires = ["publication_registry", "publication_publish", "routes_registry"]
);
extension_sql_file!(
    "../../sql/routes/check.sql",
    name = "routes_check",
    requires = ["publication_publish", "routes_registry"]
);
extension_sql_file!(
    "../../sql/routes/reserve.sql",
    name = "routes_reserve",
    requires = ["channels", "routes_registry", signing::folded_event]
);
extension_sql_file!("../../sql/private_channels.sql", name = "private_channels");
extension_sql_file!("../../sql/chat/tables.sql", name = "chat_tables");
extension_sql_file!(
    "../../sql/chat/triggers.sql",
    name = "chat_triggers",
    requires = [touch::touch_conversations, message_id::message_id]
);
extension_sql_file!("../../sql/chat/rights.sql", name = "chat_rights");
extension_sql_file!("../../sql/chat/install.sql", name = "chat_install");
extension_sql_file!("../../sql/chat/uninstall.sql", name = "chat_uninstall");
extension_sql_file!(
    "../../sql/chat/check.sql",
    name = "chat_check",
    requires = ["types", "projection_definition", "routes_registry"]
);
extension_sql_file!("../../sql/supabase/api.sql", name = "supabase_api", requires = ["settings"]);
extension_sql_file!("../../sql/supabase/partitions.sql", name = "supabase_partitions");
extension_sql_file!("../../sql/supabase/relay.sql", name = "supabase_relay");
extension_sql_file!("../../sql/supabase/check.sql", name = "supabase_check");
extension_sql_file!("../../sql/supabase/topic.sql", name = "supabase_topic");
extension_sql_file!(
    "../../sql/live/registry.sql",
    name = "live_registry",
    requires = [
        "types",
        "claims",
        "projection_definition",
        "publication_registry",
        "publication_publish",
        "routes_add",
        "supabase_api"
    ]
);
extension_sql_file!("../../sql/live/make.sql", name = "live_make", requires = ["live_registry"]);
extension_sql_file!("../../sql/check.sql", name = "check");
extension_sql_file!("../../sql/help.sql", name = "help");
extension_sql_file!("../../sql/rights.sql", name = "rights", finalize);

/// Called by Postgres when a session loads the library, or once for all, if the server preloads it. What is registered
/// then, sessions inherit.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // pgrx puts a backtrace into the DETAIL of errors when the server was started with RUST_BACKTRACE set. Visitors
    // see errors too; a developer can still ask for it by this narrower variable.
    #[expect(clippy::disallowed_methods, reason = "Rust's own variable, and no setting")]
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: a Postgres process has one thread.
        unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    }
    cache::listen_for_invalidations();
    slot_guard::register();
}

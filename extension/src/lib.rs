//! The extension of campfire: SQL, and the few functions that SQL does badly.
//!
//! Everything lives in schema `campfire`, which the first SQL file makes. Functions written here therefore bring
//! their own SQL, with the schema in it, and `requires` says which file needs them. `cargo xtask install` reads both from
//! the text (`xtask/src/script.rs`): the files in the order of this one, the functions right after the schema.

mod cache;
mod claims;
mod error;
mod event_name;
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

extension_sql_file!("../../sql/10_schema.sql", name = "schema", bootstrap);
extension_sql_file!(
    "../../sql/20_projection.sql",
    name = "projection",
    requires = [
        "schema",
        projection::sync_realtime_conversations,
        projection::projection_registry_changed,
        projection::definition::projection_columns,
        owner::query_as_owner,
        owner::start_projection,
        owner::backfill_batch,
        owner::drop_projection,
        owner::mend_projection,
        owner::alter_projection,
        owner::require_no_transaction,
        refusal::refuse_command
    ]
);
extension_sql_file!("../../sql/30_publication.sql", name = "publication", requires = ["projection"]);
extension_sql_file!(
    "../../sql/32_publication_check.sql",
    name = "publication_check",
    requires = ["publication"]
);
extension_sql_file!("../../sql/34_guard.sql", name = "guard", requires = ["publication_check"]);
extension_sql_file!("../../sql/36_projection_parts.sql", name = "projection_parts", requires = ["guard"]);
extension_sql_file!(
    "../../sql/37_projection_make.sql",
    name = "projection_make",
    requires = ["projection_parts"]
);
extension_sql_file!(
    "../../sql/38_projection_mend.sql",
    name = "projection_mend",
    requires = ["projection_make"]
);
extension_sql_file!(
    "../../sql/39_projection_guard.sql",
    name = "projection_guard",
    requires = ["projection_mend"]
);
extension_sql_file!("../../sql/40_channels.sql", name = "channels", requires = ["projection_guard"]);
extension_sql_file!(
    "../../sql/41_projection_restore.sql",
    name = "projection_restore",
    requires = ["channels"]
);
extension_sql_file!("../../sql/42_routes.sql", name = "routes", requires = ["projection_restore"]);
extension_sql_file!(
    "../../sql/43_installation_check.sql",
    name = "installation_check",
    requires = ["routes"]
);
extension_sql_file!("../../sql/44_route_check.sql", name = "route_check", requires = ["installation_check"]);
extension_sql_file!("../../sql/46_replace_table.sql", name = "replace_table", requires = ["route_check"]);
extension_sql_file!(
    "../../sql/50_broadcast.sql",
    name = "broadcast",
    requires = ["replace_table", signing::emit, signing::is_reserved_event]
);
extension_sql_file!(
    "../../sql/60_rls.sql",
    name = "rls",
    requires = ["broadcast", rls::claim_from_json, rls::is_agent]
);
extension_sql_file!("../../sql/70_slot_guard.sql", name = "slot_guard", requires = ["rls"]);
extension_sql_file!("../../sql/install/10_tables.sql", name = "install_tables", requires = ["slot_guard"]);
extension_sql_file!(
    "../../sql/install/20_triggers.sql",
    name = "install_triggers",
    requires = ["install_tables", touch::touch_conversations, message_id::message_id]
);
extension_sql_file!(
    "../../sql/install/30_rights.sql",
    name = "install_rights",
    requires = ["install_triggers"]
);
extension_sql_file!("../../sql/install/40_install.sql", name = "install", requires = ["install_rights"]);
extension_sql_file!("../../sql/install/50_uninstall.sql", name = "uninstall", requires = ["install"]);
extension_sql_file!("../../sql/80_supabase_api.sql", name = "supabase_api", requires = ["uninstall"]);
extension_sql_file!(
    "../../sql/81_supabase_partitions.sql",
    name = "supabase_partitions",
    requires = ["supabase_api"]
);
extension_sql_file!(
    "../../sql/82_supabase_relay.sql",
    name = "supabase_relay",
    requires = ["supabase_partitions"]
);
extension_sql_file!(
    "../../sql/83_supabase_check.sql",
    name = "supabase_check",
    requires = ["supabase_relay"]
);
extension_sql_file!(
    "../../sql/84_supabase_topic.sql",
    name = "supabase_topic",
    requires = ["supabase_check"]
);
extension_sql_file!("../../sql/85_help.sql", name = "help", requires = ["supabase_topic"]);
extension_sql_file!("../../sql/90_rights.sql", name = "rights", requires = ["help"], finalize);

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

//! The key that signs messages of SQL stands in no log, whatever is logged.

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::Options;
use campfire_tests::seed::DATABASE;
use campfire_tests::server::Server;

use crate::scene::{Scene, with_cluster};

/// Everything that signs, as the superuser, whose statements the loggers below see whole.
const SIGNED: &str = "
    select campfire.install_supabase_api();
    select campfire.rotate_broadcast_key();
    select campfire.broadcast('news', 'published', '{\"n\": 1}');
    select realtime.send('{\"n\": 1}', 'e', 'room:7');
    select realtime.send_binary('\\xdead', 'e', 'room:7');
    select campfire.enable_route((select min(id) from campfire.routes where not enabled));
    do $$ begin perform campfire.broadcast('news', 'nested', '{}'); end $$;";

/// auto_explain comes with Postgres and writes parameters from 16 on; pgaudit, where it is installed, writes the
/// variables of PL/pgSQL as well.
fn log_everything() -> Result<(Options, bool)> {
    let server = Server::find(None)?;
    let has_pgaudit = server.library_dir.join("pgaudit.so").exists();
    let libraries = if has_pgaudit { "auto_explain,pgaudit" } else { "auto_explain" };
    let mut settings = vec![
        ("shared_preload_libraries", libraries),
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_parameter_max_length", "-1"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_nested_statements", "on"),
        ("auto_explain.log_verbose", "on"),
    ];
    if server.version >= 16 {
        settings.push(("auto_explain.log_parameter_max_length", "-1"));
    }
    if has_pgaudit {
        settings.extend([
            ("pgaudit.log", "all"),
            ("pgaudit.log_parameter", "on"),
            ("pgaudit.log_catalog", "on"),
        ]);
    }
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok((Options { settings, ..Options::default() }, has_pgaudit))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_logger_of_statements_and_parameters_writes_the_signing_key() {
    let (options, has_pgaudit) = log_everything().expect("a Postgres");
    with_cluster(
        options,
        |settings| settings,
        async |scene: &mut Scene| {
            let keys = "select encode(key, 'hex') from campfire.broadcast_keys";
            let before = scene.cluster.psql(DATABASE, keys)?;
            scene.cluster.psql(DATABASE, SIGNED)?;
            let after = scene.cluster.psql(DATABASE, keys)?;
            let log = std::fs::read_to_string(scene.cluster.log_path())?.to_lowercase();
            // The loggers see what is nested, or nothing was tried.
            ensure!(
                log.contains("from campfire.broadcast_keys as k order by k.id desc"),
                "auto_explain is silent"
            );
            ensure!(!has_pgaudit || log.contains("audit: session"), "pgaudit is silent");
            let keys: Vec<&str> = before.lines().chain(after.lines()).collect();
            ensure!(keys.len() > 1 && keys.iter().all(|key| key.len() == 64), "{} keys", keys.len());
            for key in keys {
                ensure!(!log.contains(key), "a key stands in the log: {}", line_with(&log, key)?);
            }
            Ok(())
        },
    )
    .await;
}

fn line_with<'a>(log: &'a str, key: &str) -> Result<&'a str> {
    log.lines().find(|line| line.contains(key)).context("gone")
}

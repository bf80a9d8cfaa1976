//! `campfire-relay`: reads its settings, starts the relay, and waits for a signal.

use std::process::ExitCode;

use campfire_relay::app::App;
use campfire_relay::config::{Cli, Command, Config, LogFormat};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Command::Run(config) = Cli::parse().command;
    match run(*config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the log's level and shape: the last thing an operator sees.
            eprintln!("campfire-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| anyhow::anyhow!("CAMPFIRE_LOG: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => logs.json().init(),
    }
    tracing::info!(?config, "starting");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopped = async move {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        App::build(config).await?.run(stopped).await
    })
}

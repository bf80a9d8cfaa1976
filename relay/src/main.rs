//! `campfire-relay`: reads its settings, starts the relay, and waits for a signal.

use std::error::Error;
use std::process::ExitCode;

use campfire_relay::app::App;
use campfire_relay::config::{Cli, Command, Config, LogFormat};
use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Command::Run(config) = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return refuse(&error),
    };
    match run(*config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the log's level and shape: the last thing an operator sees.
            eprintln!("campfire-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Help and version as clap has them. A setting that is not understood is one line that names its variable, because
/// most are set there.
fn refuse(error: &clap::Error) -> ExitCode {
    let context = |kind| error.get(kind).map(ToString::to_string);
    let (Some(flag), ErrorKind::ValueValidation | ErrorKind::InvalidValue) =
        (context(ContextKind::InvalidArg), error.kind())
    else {
        error.exit();
    };
    let flag = flag.split_whitespace().next().unwrap_or_default();
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("the one subcommand");
    let variable = run
        .get_arguments()
        .find(|argument| argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)))
        .and_then(|argument| argument.get_env())
        .map(|variable| format!("{} ({flag})", variable.to_string_lossy()));
    let setting = variable.unwrap_or_else(|| flag.to_owned());
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let problem = match (error.source(), context(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(values)) => format!("it is one of {values}"),
        (None, None) => "it is not understood".to_owned(),
    };
    eprintln!("campfire-relay: {setting} is {value:?}: {problem}");
    ExitCode::from(2)
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

//! `campfire-relay`: reads its settings, starts the relay, and waits for a signal.

use std::backtrace::BacktraceStatus;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use campfire_relay::app::App;
use campfire_relay::cli::{self, Cli, Command, Config, LogFormat, Shown};
use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let Command::Run(config) = Cli::from_arg_matches(&matches)?.command;
        Ok((config, matches.subcommand_matches("run").map(cli::shown).unwrap_or_default()))
    });
    let (config, settings) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error),
    };
    #[expect(clippy::disallowed_methods, reason = "reads the names alone, to find misspelt settings")]
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    if let Err(problem) = cli::environment::check(names) {
        say(&problem);
        return ExitCode::from(2);
    }
    match run(*config, &settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line, whatever the log's level and shape: the last thing an operator sees. If nobody reads it, that is no reason
/// to panic.
fn say(text: &str) {
    writeln!(std::io::stderr(), "campfire-relay: {text}").ok();
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
    let argument = run
        .get_arguments()
        .find(|argument| argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)));
    let variable = argument
        .and_then(|argument| argument.get_env())
        .map(|variable| format!("{} ({flag})", variable.to_string_lossy()));
    let setting = variable.unwrap_or_else(|| flag.to_owned());
    let is_secret = argument.is_some_and(clap::Arg::is_hide_env_values_set);
    let value = context(ContextKind::InvalidValue).filter(|_| !is_secret).map(|value| format!("{value:?}"));
    let problem = match (error.source(), context(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(values)) => format!("it is one of {values}"),
        (None, None) => "it is not understood".to_owned(),
    };
    say(&format!("{setting} is {}: {problem}", value.as_deref().unwrap_or("not understood")));
    ExitCode::from(2)
}

fn run(config: Config, settings: &[Shown]) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| anyhow::anyhow!("CAMPFIRE_LOG: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => logs.json().init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        // First of all: until then a stray signal ends the process without a word.
        let mut stopped = Box::pin(stop_signal()?);
        pass_over_others()?;
        info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
        let app = tokio::select! {
            app = App::build(config) => app?,
            signal = &mut stopped => {
                info!(signal, "stopped before it had started");
                return Ok(());
            }
        };
        // When the settings are known to make sense: an error above is one line, not one below many.
        for Shown { group, settings } in settings {
            info!("{group}: {settings}");
        }
        app.run(stopped).await
    })
}

/// A panic as a line of the log, in its shape. It ends its task: one socket, or one of those without which the relay ends.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("no text");
    let location = panic.location().map(ToString::to_string);
    // As RUST_BACKTRACE has it.
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(location, backtrace, "panicked: {text}");
}

/// Resolves to the name of a signal that ends the relay.
fn stop_signal() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Signals that other programs take for an order to reload or reopen files, and that would end a process which has no
/// handler for them. Broken pipes are errors of their writes already: the Rust runtime ignores that signal.
fn pass_over_others() -> std::io::Result<()> {
    let kinds = [
        ("SIGHUP", SignalKind::hangup()),
        ("SIGUSR1", SignalKind::user_defined1()),
        ("SIGUSR2", SignalKind::user_defined2()),
    ];
    for (name, kind) in kinds {
        let mut signals: Signal = signal(kind)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "without it the log says nothing about ignored signals, and nothing else is lost"
        )]
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                info!(
                    "{name} is ignored: settings are read at the start alone; restart the relay to change them"
                );
            }
        });
    }
    Ok(())
}

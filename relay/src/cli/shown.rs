//! The effective settings as readable lines: what each is, and secrets only as being there.

use clap::{ArgMatches, CommandFactory};

use super::Cli;

/// A group of `--help`, and its settings as `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub group: String,
    pub settings: String,
}

/// All settings of `run`, by the groups of `--help`.
pub fn shown(matches: &ArgMatches) -> Vec<Shown> {
    let command = Cli::command();
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    let run = command.find_subcommand("run");
    for argument in run.into_iter().flat_map(clap::Command::get_arguments) {
        // Help itself is no setting.
        let Some(name) = argument.get_env().and_then(|_| argument.get_long()) else { continue };
        let values = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
        let value: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        let value = match value.join(",") {
            value if value.is_empty() => "(not set)".to_owned(),
            _ if argument.is_hide_env_values_set() => "***".to_owned(),
            value if value.contains(char::is_whitespace) => format!("{value:?}"),
            value => value,
        };
        let heading = argument.get_help_heading().unwrap_or("Settings");
        let setting = format!("{}={value}", name.replace('-', "_"));
        match groups.iter_mut().find(|(group, _)| group == heading) {
            Some((_, settings)) => settings.push(setting),
            None => groups.push((heading.to_owned(), vec![setting])),
        }
    }
    let line = |(group, settings): (String, Vec<String>)| Shown { group, settings: settings.join(" ") };
    groups.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use clap::builder::ValueParser;

    use super::*;
    use crate::config::Secret;

    fn shown_with(arguments: &[&str]) -> Vec<Shown> {
        let matches =
            Cli::command().try_get_matches_from(["campfire-relay", "run"].iter().chain(arguments)).unwrap();
        shown(matches.subcommand_matches("run").unwrap())
    }

    #[test]
    fn every_setting_is_shown_and_no_secret() {
        let secrets = [
            "--jwt-secret",
            "hunter2",
            "--database-url",
            "postgres://u:hunter2@h/d",
            "--api-keys",
            "hunter2",
        ];
        let lines = shown_with(
            &[&secrets[..], &["--jwt-previous-secrets", "hunter2", "--idle-seconds", "2m"]].concat(),
        );
        let text = lines.iter().map(|line| line.settings.as_str()).collect::<Vec<_>>().join(" ");
        assert!(!text.contains("hunter2") && text.contains("jwt_secret=***"), "{text}");
        assert!(text.contains("idle_seconds=2m") && text.contains("slot=campfire"), "{text}");
        assert!(text.contains("jwks=(not set)") && text.contains("listen=127.0.0.1:8080"), "{text}");
        for argument in settings() {
            let long = argument.get_long().unwrap();
            assert!(text.contains(&format!("{}=", long.replace('-', "_"))), "{long} is not in {text}");
        }
    }

    /// All arguments of `run` but help.
    fn settings() -> Vec<clap::Arg> {
        let command = Cli::command();
        let arguments = command.find_subcommand("run").unwrap().get_arguments();
        arguments
            .filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
            .cloned()
            .collect()
    }

    #[test]
    fn every_setting_has_a_variable_and_what_is_secret_says_so() {
        let secret: ValueParser = clap::value_parser!(Secret).into();
        for argument in settings() {
            let name = argument.get_id();
            assert!(argument.get_env().is_some() && argument.get_long().is_some(), "{name}");
            let is_secret = argument.get_value_parser().type_id() == secret.type_id();
            assert!(!is_secret || argument.is_hide_env_values_set(), "{name} would be logged");
        }
    }

    #[test]
    fn lines_are_short_enough_to_be_read() {
        for line in shown_with(&[]) {
            assert!(line.settings.len() < 500, "{}: {} bytes", line.group, line.settings.len());
        }
    }
}

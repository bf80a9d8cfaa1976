//! Variables that begin with `CAMPFIRE_` and are no setting: almost always a misspelt one, whose default would be used
//! without a word.

use clap::CommandFactory;

use super::Cli;

/// Names that others give to what is not the relay's, and that may stand in its environment.
///
/// `CAMPFIRE_TEST_…` and `CAMPFIRE_CHROOT` are the tests' of this repository. Kubernetes and Docker links add the rest
/// for a service that is called `campfire`, or `campfire-` and something.
fn is_foreign(name: &str) -> bool {
    let is_of_a_service = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name
            .split_once("_PORT_")
            .is_some_and(|(_, rest)| rest.starts_with(|first: char| first.is_ascii_digit()));
    name.starts_with("CAMPFIRE_TEST_") || name == "CAMPFIRE_CHROOT" || is_of_a_service
}

/// Refuses variables that no setting has, in a line that names them all.
///
/// # Errors
/// The names, each with the setting that is most like it.
pub fn check(names: impl IntoIterator<Item = String>) -> Result<(), String> {
    let settings = variables();
    let mut unknown: Vec<String> = names
        .into_iter()
        .filter(|name| name.get(..9).is_some_and(|prefix| prefix.eq_ignore_ascii_case("CAMPFIRE_")))
        .filter(|name| !settings.contains(name) && !is_foreign(name))
        .collect();
    unknown.sort();
    if unknown.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = unknown
        .iter()
        .map(|name| match nearest(name, &settings) {
            Some(setting) => format!("{name} is no setting: did you mean {setting}?"),
            None => format!("{name} is no setting"),
        })
        .collect();
    Err(format!(
        "{} (campfire-relay run --help lists them; unset what is not for the relay)",
        told.join("; ")
    ))
}

/// The variables of all settings.
fn variables() -> Vec<String> {
    let command = Cli::command();
    let run = command.find_subcommand("run");
    let arguments = run.into_iter().flat_map(clap::Command::get_arguments);
    arguments.filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned())).collect()
}

/// The setting whose name is most like this one, if one is.
fn nearest<'s>(name: &str, settings: &'s [String]) -> Option<&'s str> {
    let name = name.to_ascii_uppercase();
    let distance = |setting: &String| {
        // The same words in another order are near as well.
        let sorted = |name: &str| {
            let mut words: Vec<&str> = name.split('_').collect();
            words.sort_unstable();
            words.join("_")
        };
        // So are those that go on where the other ends, if a little less.
        let goes_on = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_') && rest.len() > 1)
        };
        if goes_on(&name, setting) || goes_on(setting, &name) {
            return 2;
        }
        let as_written = strsim::damerau_levenshtein(&name, setting);
        as_written.min(1 + strsim::damerau_levenshtein(&sorted(&name), &sorted(setting)))
    };
    let (distance, setting) = settings.iter().map(|setting| (distance(setting), setting)).min()?;
    // A third of what follows the prefix may differ.
    (distance <= (name.len() - "CAMPFIRE_".len()).div_ceil(3).max(2)).then_some(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_names(names: &[&str]) -> Result<(), String> {
        check(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn a_misspelt_setting_is_told_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("CAMPFIRE_JWT_SECRT", "CAMPFIRE_JWT_SECRET"),
            ("CAMPFIRE_API_KEY", "CAMPFIRE_API_KEYS"),
            ("CAMPFIRE_LISTEN_ADDRESS", "CAMPFIRE_LISTEN"),
            ("CAMPFIRE_WINDOW_SECOND", "CAMPFIRE_WINDOW_SECONDS"),
            ("CAMPFIRE_SOCKETS_MAX", "CAMPFIRE_MAX_SOCKETS"),
            ("CAMPFIRE_DATABASE", "CAMPFIRE_DATABASE_URL"),
            ("CAMPFIRE_TRUSTED_PROXY", "CAMPFIRE_TRUSTED_PROXIES"),
            ("campfire_slot", "CAMPFIRE_SLOT"),
            ("CAMPFIRE_JWT_SERCET", "CAMPFIRE_JWT_SECRET"),
        ] {
            let error = check_names(&[name]).expect_err(name);
            assert!(error.contains(&format!("{name} is no setting: did you mean {meant}?")), "{error}");
        }
    }

    #[test]
    fn what_is_like_none_is_told_without_a_guess() {
        let error = check_names(&["CAMPFIRE_ZZZZZZZZZZ", "CAMPFIRE_"]).unwrap_err();
        assert!(
            error.contains("CAMPFIRE_ZZZZZZZZZZ is no setting;")
                || error.contains("CAMPFIRE_ZZZZZZZZZZ is no setting ("),
            "{error}"
        );
        assert!(error.contains("--help"), "{error}");
    }

    #[test]
    fn settings_and_what_is_not_for_the_relay_pass() {
        let names: Vec<String> = variables();
        assert!(names.len() > 50 && check(names).is_ok());
        check_names(&[
            "PATH",
            "CAMP",
            "CAMPFIRE",
            "CAMPFIRÉ_X",
            "MY_CAMPFIRE_SLOT",
            "CAMPFIRE_TEST_PG",
            "CAMPFIRE_TEST_ROWS",
            "CAMPFIRE_CHROOT",
            "CAMPFIRE_SERVICE_HOST",
            "CAMPFIRE_SERVICE_PORT",
            "CAMPFIRE_SERVICE_PORT_HTTP",
            "CAMPFIRE_PORT",
            "CAMPFIRE_PORT_8080_TCP",
            "CAMPFIRE_PORT_8080_TCP_ADDR",
            "CAMPFIRE_RELAY_SERVICE_HOST",
            "CAMPFIRE_RELAY_PORT_80_TCP_PROTO",
        ])
        .unwrap();
    }
}

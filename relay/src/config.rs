//! How settings are written: what several parts of the relay take in the same form.

mod secret;
pub(crate) mod units;

pub use self::secret::Secret;

/// A group of settings as it is if nothing is set.
pub(crate) fn defaults<T: clap::Args>() -> T {
    let command = T::augment_args(clap::Command::new("defaults"));
    let unset = command.mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
    let matches = unset.get_matches_from(["defaults"]);
    T::from_arg_matches(&matches).expect("defaults are values")
}

//! How the API is set.

use std::time::Duration;

use super::assets::DashboardSettings;
use crate::admission::RequestRate;
use crate::config::units;

/// Whether there is an API, and what it may cost.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "API")]
pub struct ApiSettings {
    /// Whether the relay serves the HTTP API of widget and dashboard.
    #[arg(id = "API", long = "api", env = "CAMPFIRE_API", default_value = "on", value_parser = units::switch, action = clap::ArgAction::Set)]
    pub is_on: bool,

    /// Schema of the installation that the API serves.
    #[arg(id = "API_SCHEMA", long = "api-schema", env = "CAMPFIRE_API_SCHEMA", default_value = "public")]
    pub schema: String,

    /// SQL sessions that answer requests to the API.
    #[arg(id = "API_SESSIONS", long = "api-sessions", env = "CAMPFIRE_API_SESSIONS", default_value_t = 8, value_parser = units::some::<u16>)]
    pub sessions: u16,

    /// Requests to the API that may wait for a session; more are refused with 503.
    #[arg(id = "API_QUEUE", long = "api-queue", env = "CAMPFIRE_API_QUEUE", default_value_t = 256, value_parser = units::some::<u16>)]
    pub queue: u16,

    /// Seconds that the database may take for a request, including the wait for a session.
    #[arg(id = "API_SECONDS", long = "api-seconds", env = "CAMPFIRE_API_SECONDS", default_value = "5", value_parser = units::some_seconds)]
    pub timeout: Duration,

    #[command(flatten)]
    pub rate: RequestRate,

    /// Largest content of a message written over the API, in bytes. A request's body may have six times as many and
    /// 16 KiB, for JSON escapes and the rest.
    #[arg(id = "MESSAGE_BYTES_MAX", long = "max-message-bytes", env = "CAMPFIRE_MAX_MESSAGE_BYTES", default_value = "16KiB", value_parser = units::bytes::<usize>)]
    pub message_bytes_max: usize,

    /// Seconds for which a visitor's token is valid.
    #[arg(id = "VISITOR_TOKEN_SECONDS", long = "visitor-token-seconds", env = "CAMPFIRE_VISITOR_TOKEN_SECONDS", default_value = "86400", value_parser = units::some_seconds)]
    pub visitor_token_lifetime: Duration,

    /// Days after the end of a visitor's token in which it can still be exchanged for a new one.
    #[arg(id = "VISITOR_RESUME_DAYS", long = "visitor-resume-days", env = "CAMPFIRE_VISITOR_RESUME_DAYS", default_value_t = 30, value_parser = units::count::<u16>)]
    pub visitor_resume_days: u16,

    #[command(flatten)]
    pub dashboard: DashboardSettings,
}

impl ApiSettings {
    /// The SQL sessions that it may use at once.
    pub fn sessions_max(&self) -> usize {
        if self.is_on { self.sessions.into() } else { 0 }
    }

    /// Largest body of a request.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.message_bytes_max.saturating_mul(6).saturating_add(16 << 10)
    }

    /// How long after its end a visitor's token can be exchanged.
    pub(super) fn resume_age_max(&self) -> Duration {
        Duration::from_secs(86_400 * u64::from(self.visitor_resume_days))
    }
}

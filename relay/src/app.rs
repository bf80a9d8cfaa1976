//! Builds the relay from its settings, runs it, and stops it in the order in which data flows.

mod door;
mod vital;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

pub use self::door::Door;
use self::vital::{VitalTask, VitalTasks};
use crate::admission::{Addresses, Admission, Jwks, Policies, PolicyLimits, Rates, Verifier};
use crate::auth::{ApiKeys, ClaimPaths, Keys};
use crate::cli::{self, Config, Limits, OnLostSlot, PublicChannels};
use crate::config::ListenAddress;
use crate::decode;
use crate::fanout::{Hub, HubSettings, PresenceLimits, Unread, WindowLimits};
use crate::http::{self, Listener, Lobby, LobbyLimits, Refusals, Shared, Strangers};
use crate::ingest::{self, Ingest};
use crate::metrics::Metrics;
use crate::postgres::Lsn;
use crate::socket::{Sockets, Unfinished};
use crate::sql::{Answering, RowsReader, Sessions, TurnLimits};
use crate::wal::WalConfig;

/// Inputs that may wait for the hub from each side. Behind a full queue the sender waits: sessions stop reading
/// their sockets, and Postgres keeps the WAL.
const CLIENT_INPUTS: usize = 1024;
// A batch has up to 4,096 changes, routed about 1 KiB each: of a huge transaction these wait as well.
const WAL_INPUTS: usize = 4;

/// Time that a status update to Postgres may take to come round; the server's own limit is wal_sender_timeout.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// A relay that is bound and wired, not yet running.
pub struct App {
    config: Arc<Config>,
    jwks: Option<Arc<Jwks>>,
    shared: Arc<Shared>,
    hub: Hub,
    client_inputs: mpsc::Receiver<crate::fanout::HubInput>,
    wal_inputs: mpsc::Receiver<crate::fanout::HubInput>,
    ingest: Ingest,
    rows_reader: RowsReader,
    listeners: Listeners,
    stop: CancellationToken,
}

/// What is bound, by what it serves.
struct Listeners {
    clients: Vec<Listener>,
    /// Health and metrics alone; if there are none, the others serve these too.
    metrics: Vec<Listener>,
}

impl App {
    /// Checks the settings, binds the addresses, and wires the parts. Nothing runs yet.
    pub async fn build(config: Config) -> Result<Self> {
        let config = Arc::new(config);
        #[expect(clippy::disallowed_methods, reason = "libpq's variables complete the URL, once")]
        let database = cli::database(&config.database_url, |name| std::env::var(name).ok())
            .map_err(anyhow::Error::msg)?;
        let keys = keys(&config)?;
        let jwks = config.jwks.clone().map(|source| Arc::new(Jwks::new(source, keys.clone())));
        if let Some(jwks) = &jwks {
            jwks.load_first().await.context("CAMPFIRE_JWKS cannot be read")?;
        }
        let api_keys = config.api_keys.as_ref().map_or("", |keys| keys.expose());
        let api_keys = ApiKeys::parse(api_keys).context("CAMPFIRE_API_KEYS")?;

        let listeners = Listeners::bind(&config).await?;

        let stop = CancellationToken::new();
        let metrics = Metrics::default();
        let (clients, client_inputs) = mpsc::channel(CLIENT_INPUTS);
        let (wal, wal_inputs) = mpsc::channel(WAL_INPUTS);
        let (ready_tx, ready) = watch::channel(false);
        let applied = Arc::new(watch::Sender::new(Lsn::INVALID));
        let settings = HubSettings {
            channels_per_socket_max: config.limits.channels_per_socket_max,
            sockets_per_token_max: config.limits.sockets_per_token_max,
            events_per_second_max: config.limits.events_per_second_max,
            payload_bytes_max: config.limits.payload_bytes_max,
            org_payload_bytes_max: config.limits.org_payload_bytes_max,
            typing_timeout: Duration::from_secs(config.limits.typing_seconds),
            public_channels: config.public_channels == PublicChannels::Allow,
            presence: PresenceLimits {
                grace: Duration::from_secs(config.limits.presence_grace_seconds),
                calls_max: config.limits.presence_calls,
                calls_time: Duration::from_secs(config.limits.presence_calls_seconds),
                payload_bytes_max: config.limits.presence_bytes_max,
                room_bytes_max: config.limits.presence_room_bytes_max,
                bytes_max: config.limits.presence_total_bytes_max,
            },
            window: WindowLimits {
                age_max: Duration::from_secs(config.window_seconds),
                bytes_max: config.window_bytes,
                organization_bytes_max: config.window_org_bytes,
            },
            snapshot_bytes_max: config.snapshot_bytes,
        };
        // The reader only sorts them, and does not wait: what is too much is its to refuse.
        let (snapshots, snapshot_requests) = mpsc::channel(CLIENT_INPUTS);
        let hub = Hub::new(settings, metrics.clone(), snapshots, Arc::clone(&applied), ready_tx);
        let limits = within_open_files(config.limits.clone());
        let lobby = LobbyLimits {
            connections_max: limits.connections_max,
            connections_per_origin_max: limits.connections_per_ip_max,
            // One is always allowed, however large.
            bodies_bytes_max: limits.bodies_bytes_max.max(limits.body_bytes_max),
            header: Duration::from_secs(limits.header_seconds),
            body: Duration::from_secs(limits.body_seconds),
            keep_alive: Duration::from_secs(limits.keep_alive_seconds),
        };
        // As many as those who use them may use at once.
        let sessions_max = config.policy_sessions + usize::from(config.snapshot_sessions);
        let sessions = Sessions::new(database.clone(), sessions_max);
        let rows_reader = RowsReader {
            requests: snapshot_requests,
            answering: Answering {
                sessions: Arc::clone(&sessions),
                hub: clients.clone(),
                metrics: metrics.clone(),
                timeout: Duration::from_secs(config.snapshot_seconds),
                bytes_max: config.snapshot_bytes,
                applied: applied.subscribe(),
            },
            limits: TurnLimits {
                at_once: config.snapshot_sessions.into(),
                crowd: usize::from(config.snapshot_sessions) + usize::from(config.snapshot_queue),
            },
            stop: stop.clone(),
        };
        let policy_limits = PolicyLimits {
            sessions: config.policy_sessions,
            queue: config.policy_queue,
            timeout: Duration::from_secs(config.policy_seconds.max(1)),
            denial_age_max: Duration::from_secs(config.policy_denial_seconds),
        };
        let (claim_paths, claim_paths_now) = watch::channel(ClaimPaths::default());
        let (ingest_status, ingest_status_now) = watch::channel(ingest::Status::default());
        let admission = Arc::new(Admission {
            verifier: Verifier { keys, api_keys, jwks: jwks.clone(), claim_paths: claim_paths_now },
            policies: Policies::new(sessions, policy_limits, metrics.clone()),
            addresses: Addresses::default(),
            rates: Rates::default(),
        });
        let sockets = Arc::new(Sockets {
            hub: clients.clone(),
            limits: limits.clone(),
            admission: Arc::clone(&admission),
            metrics: metrics.clone(),
            presence_default: config.presence_default,
            unread: Unread::new(config.limits.unread_bytes_max),
            // One is always allowed, however large.
            unfinished: Unfinished::new(
                config.limits.unfinished_bytes_max.max(config.limits.frame_bytes_max),
            ),
            tasks: TaskTracker::new(),
            last_id: AtomicU64::new(0),
            stop: stop.clone(),
        });
        let shared = Arc::new(Shared {
            hub: clients,
            limits,
            admission,
            sockets,
            public_channels: config.public_channels == PublicChannels::Allow,
            ready,
            ingest: ingest_status_now,
            lobby: Lobby::new(lobby, metrics.clone()),
            metrics: metrics.clone(),
            refusals: Refusals::default(),
            strangers: Arc::new(Strangers::default()),
            stop: stop.clone(),
        });
        let wal_config = WalConfig {
            database,
            slot_name: config.slot.clone(),
            publications: vec![config.publication.clone(), format!("{}_control", config.publication)],
            window: Duration::from_secs(config.window_seconds),
            window_wal_bytes: config.window_wal_bytes,
            status_interval: STATUS_INTERVAL,
            frame_bytes_max: config.wal_frame_bytes,
            excerpt: decode::excerpt,
            create_slot_timeout: Duration::from_secs(config.create_slot_seconds),
            may_replace_slot: config.on_lost_slot == OnLostSlot::Recreate,
            stop: stop.clone(),
        };
        let ingest = Ingest {
            config: Arc::clone(&config),
            wal: wal_config,
            hub: wal,
            applied,
            metrics,
            claim_paths,
            status: ingest_status,
            stop: stop.clone(),
        };
        Ok(Self {
            config,
            jwks,
            shared,
            hub,
            client_inputs,
            wal_inputs,
            ingest,
            rows_reader,
            listeners,
            stop,
        })
    }

    /// Runs until `signal` resolves, an error that only a person can mend, or the death of a task; then drains.
    pub async fn run(self, signal: impl Future<Output = &'static str>) -> Result<()> {
        let (running, tasks) = self.into_tasks();
        running.run(tasks, signal).await
    }

    /// All that has to run. The hub is among them, and stops by a signal of its own.
    fn into_tasks(self) -> (Running, Vec<VitalTask>) {
        let Self {
            config,
            jwks,
            shared,
            hub,
            client_inputs,
            wal_inputs,
            ingest,
            rows_reader,
            listeners,
            stop,
        } = self;
        let mut tasks = Vec::new();
        let mut add = |name: String, run: BoxFuture<'static, Result<()>>| tasks.push(VitalTask { name, run });
        let hub_stop = CancellationToken::new();
        let hub = hub.run(client_inputs, wal_inputs, hub_stop.clone()).map(Ok);
        add(HUB.to_owned(), hub.instrument(info_span!("hub")).boxed());
        let ingest = ingest.run().map_err(anyhow::Error::from);
        add(INGEST.to_owned(), ingest.instrument(info_span!("wal", slot = %config.slot)).boxed());
        let snapshots = rows_reader.run().map(Ok);
        add("snapshot reader".to_owned(), snapshots.instrument(info_span!("snapshots")).boxed());
        let connections = TaskTracker::new();
        let mut serve = |listener: Listener, router: axum::Router| {
            let name = format!("listener on {}", listener.name());
            let serving = http::serve(listener, router, Arc::clone(&shared), connections.clone());
            add(name, serving.map(Ok).boxed());
        };
        let router = http::router(Arc::clone(&shared), listeners.metrics.is_empty());
        for listener in listeners.clients {
            serve(listener, router.clone());
        }
        for listener in listeners.metrics {
            serve(listener, http::health_router(Arc::clone(&shared)));
        }
        if let Some(jwks) = jwks {
            let interval = Duration::from_secs(config.jwks_refresh_seconds.max(1));
            let refreshing = jwks.run(interval, stop.clone()).map(Ok);
            add("reader of published keys".to_owned(), refreshing.boxed());
        }
        connections.close();
        let grace = Duration::from_secs(config.shutdown_grace_seconds);
        (Running { shared, connections, stop, hub_stop, grace }, tasks)
    }
}

const HUB: &str = "hub";
const INGEST: &str = "reader of the slot";

/// What it takes to stop a relay that runs.
struct Running {
    shared: Arc<Shared>,
    connections: TaskTracker,
    stop: CancellationToken,
    hub_stop: CancellationToken,
    grace: Duration,
}

impl Running {
    async fn run(self, tasks: Vec<VitalTask>, signal: impl Future<Output = &'static str>) -> Result<()> {
        let Self { shared, connections, stop, hub_stop, grace } = self;
        let mut vital = VitalTasks::default();
        tasks.into_iter().for_each(|task| vital.spawn(task));
        let outcome = tokio::select! {
            signal = signal => {
                info!(signal, "stopping");
                Ok(())
            }
            death = vital.first_death() => Err(death),
        };

        // In flow order: no more WAL, no more accepts; then sockets get what is queued and a goodbye; the hub last,
        // because sockets still speak to it.
        stop.cancel();
        shared.sockets.tasks.close();
        let drained = async {
            // The reader of the slot may be making one, which has to be taken back.
            vital.all_but(HUB).await;
            shared.sockets.tasks.wait().await;
            connections.wait().await;
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            let sockets = usize::try_from(shared.metrics.sockets.get()).unwrap_or_default();
            let (tasks, connections) = (shared.sockets.tasks.len(), shared.lobby.len());
            let others = [
                (sockets, "sockets that take no more"),
                (tasks.saturating_sub(sockets), "handshakes and background tasks"),
                (connections, "connections in the middle of a request"),
                (usize::from(vital.has(INGEST)), "connection to Postgres"),
            ];
            let remaining = others.into_iter().filter(|(count, _)| *count > 0);
            let remaining: Vec<_> = remaining.map(|(count, what)| format!("{count} {what}")).collect();
            warn!(
                grace_seconds = grace.as_secs(),
                "gave up waiting, as CAMPFIRE_SHUTDOWN_GRACE_SECONDS has it, for {}",
                remaining.join(", ")
            );
        }
        hub_stop.cancel();
        vital.only(HUB).await;
        info!("stopped");
        outcome
    }
}

/// The keys that verify tokens; those that are published come later.
fn keys(config: &Config) -> Result<Keys> {
    let secret = config.jwt_secret.as_ref().map_or("", |secret| secret.expose());
    let previous = config.jwt_previous_secrets.as_ref().map_or("", |secrets| secrets.expose());
    cli::check_secret("CAMPFIRE_JWT_SECRET", secret).map_err(anyhow::Error::msg)?;
    // These may be short: otherwise nobody could replace a short secret without logging everybody out.
    let short =
        previous.split(',').map(str::trim).filter(|secret| cli::check_secret("", secret).is_err()).count();
    if short > 0 {
        info!(
            short,
            "CAMPFIRE_JWT_PREVIOUS_SECRETS has secrets that can be guessed from a token: take them out when the last token signed with them has expired"
        );
    }
    let secrets = std::iter::once(secret).chain(previous.split(',').map(str::trim));
    let secrets: Vec<&[u8]> = secrets.filter(|secret| !secret.is_empty()).map(str::as_bytes).collect();
    if secrets.is_empty() && config.jwks.is_none() {
        bail!(
            "no key verifies tokens: set CAMPFIRE_JWT_SECRET to the secret with which your application signs them, or CAMPFIRE_JWKS to its published keys"
        );
    }
    Ok(Keys::from_secrets(secrets))
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self> {
        let bind = async |addresses: &[ListenAddress], setting: &str| {
            let mut listeners = Vec::new();
            for address in addresses {
                let (mode, group) = (config.unix_mode, config.unix_group.as_ref());
                listeners.push(Listener::bind(address, setting, mode, group).await?);
            }
            anyhow::Ok(listeners)
        };
        Ok(Self {
            clients: bind(&config.listen, "CAMPFIRE_LISTEN").await?,
            metrics: bind(&config.metrics_listen, "CAMPFIRE_METRICS_LISTEN").await?,
        })
    }
}

/// Sockets and connections that the open-file limit leaves room for, besides Postgres, listeners and logs.
fn within_open_files(wanted: Limits) -> Limits {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft_limit = limits.lines().find_map(|line| {
        line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<usize>().ok()
    });
    let Some(soft_limit) = soft_limit else { return wanted };
    let (sockets_max, connections_max) = share(soft_limit, wanted.sockets_max, wanted.connections_max);
    if sockets_max < wanted.sockets_max {
        warn!(
            wanted = wanted.sockets_max,
            room = sockets_max,
            connections = connections_max,
            "the open-file limit leaves room for fewer sockets; raise it with ulimit -n or LimitNOFILE="
        );
    }
    Limits { sockets_max, connections_max, ..wanted }
}

/// How many files sockets and other connections get. An eighth is kept for the latter: without it nobody could connect
/// or ask for health once all sockets are open.
fn share(open_files: usize, sockets: usize, connections: usize) -> (usize, usize) {
    const OTHER_FILES: usize = 64;
    let room = open_files.saturating_sub(OTHER_FILES);
    let connections = connections.min(room.saturating_sub(sockets).max(room / 8)).max(1);
    (sockets.min(room.saturating_sub(connections)), connections)
}

#[cfg(test)]
mod tests;

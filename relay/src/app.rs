//! Builds the relay from its settings, runs it, and stops it in the order in which data flows.

mod door;
mod vital;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

pub use self::door::Door;
use self::vital::{VitalTask, VitalTasks};
use crate::admission::{AddressLimits, Admission};
use crate::api::{self, Api, ApiMetrics};
use crate::auth::ClaimPaths;
use crate::cli::{self, Config};
use crate::decode;
use crate::fanout::{Hub, HubMetrics};
use crate::http::{self, HttpMetrics, Listener, Listeners, Lobby, LobbyLimits, Refusals, Shared, Strangers};
use crate::ingest::{self, Ingest, IngestMetrics};
use crate::metrics;
use crate::postgres::Lsn;
use crate::socket::Sockets;
use crate::sql::{Answering, RowsMetrics, RowsReader, Sessions};
use crate::wal::WalConfig;

/// Inputs that may wait for the hub from each side. Behind a full queue the sender waits: sessions stop reading
/// their sockets, and Postgres keeps the WAL.
const CLIENT_INPUTS: usize = 1024;
// A batch has up to 4,096 changes, routed about 1 KiB each: of a huge transaction these wait as well.
const WAL_INPUTS: usize = 4;

/// A relay that is bound and wired, not yet running.
pub struct App {
    config: Arc<Config>,
    shared: Arc<Shared>,
    api: Option<Arc<Api>>,
    hub: Hub,
    client_inputs: mpsc::Receiver<crate::fanout::HubInput>,
    wal_inputs: mpsc::Receiver<crate::fanout::HubInput>,
    ingest: Ingest,
    rows_reader: RowsReader,
    listeners: Listeners,
    stop: CancellationToken,
}

impl App {
    /// Checks the settings, binds the addresses, and wires the parts. Nothing runs yet.
    pub async fn build(config: Config) -> Result<Self> {
        let config = Arc::new(config);
        #[expect(clippy::disallowed_methods, reason = "libpq's variables complete the URL, once")]
        let database = cli::database(&config.database_url, |name| std::env::var(name).ok())
            .map_err(anyhow::Error::msg)?;
        let stop = CancellationToken::new();
        let mut registry = metrics::registry();
        // As many as those who use them may use at once.
        let shares =
            [config.admission.policies.sessions, config.rows.sessions.into(), config.api.sessions_max()];
        let sessions_max = shares.into_iter().fold(0, usize::saturating_add);
        let sessions = Sessions::new(database.clone(), sessions_max);
        let (claim_paths, claim_paths_now) = watch::channel(ClaimPaths::default());
        let mut admission =
            Admission::build(&config.admission, Arc::clone(&sessions), claim_paths_now, &mut registry)
                .await?;
        let listeners = config.http.listen.bind().await?;
        let (address_limits, lobby_limits) = within_open_files(admission.address_limits, config.http.lobby);
        admission.address_limits = address_limits;
        let admission = Arc::new(admission);

        let (clients, client_inputs) = mpsc::channel(CLIENT_INPUTS);
        let (wal, wal_inputs) = mpsc::channel(WAL_INPUTS);
        let (ready_tx, ready) = watch::channel(false);
        let applied = Arc::new(watch::Sender::new(Lsn::INVALID));
        // The reader only sorts them, and does not wait: what is too much is its to refuse.
        let (snapshots, snapshot_requests) = mpsc::channel(CLIENT_INPUTS);
        let hub_metrics = HubMetrics::new(&mut registry);
        let messages_dropped = hub_metrics.client_messages_dropped.clone();
        let hub = Hub::new(config.hub, hub_metrics, snapshots, Arc::clone(&applied), ready_tx);
        let rows_reader = RowsReader {
            requests: snapshot_requests,
            answering: Answering {
                sessions: Arc::clone(&sessions),
                hub: clients.clone(),
                metrics: RowsMetrics::new(&mut registry),
                settings: config.rows,
                bytes_max: config.hub.snapshot_bytes_max,
                applied: applied.subscribe(),
            },
            stop: stop.clone(),
        };
        let sockets = Sockets::build(
            config.sockets,
            config.hub,
            clients.clone(),
            messages_dropped,
            Arc::clone(&admission),
            &mut registry,
            stop.clone(),
        );
        let (ingest_status, ingest_status_now) = watch::channel(ingest::Status::default());
        let ingest = Ingest {
            settings: config.ingest.clone(),
            public_channels: config.hub.public_channels,
            wal: WalConfig::new(
                config.wal.clone(),
                database,
                config.hub.window.age_max,
                decode::excerpt,
                stop.clone(),
            ),
            hub: wal,
            applied,
            metrics: IngestMetrics::new(&mut registry),
            claim_paths,
            status: ingest_status,
            stop: stop.clone(),
        };
        let http_metrics = HttpMetrics::new(&mut registry);
        let api_metrics = ApiMetrics::new(&mut registry);
        let shared = Arc::new(Shared {
            hub: clients,
            hub_settings: config.hub,
            proxies: config.http.proxies,
            admission,
            sockets,
            ready,
            ingest: ingest_status_now,
            lobby: Lobby::new(lobby_limits, http_metrics.clone()),
            metrics: http_metrics,
            registry,
            refusals: Refusals::default(),
            strangers: Arc::new(Strangers::default()),
            stop: stop.clone(),
        });
        let api = config.api.is_on.then(|| {
            let signing_secret = config.admission.keys.signing_secret();
            Api::new(Arc::clone(&shared), sessions, config.api.clone(), signing_secret, api_metrics)
        });
        Ok(Self { config, shared, api, hub, client_inputs, wal_inputs, ingest, rows_reader, listeners, stop })
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
            shared,
            api,
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
        add(INGEST.to_owned(), ingest.instrument(info_span!("wal", slot = %config.wal.slot_name)).boxed());
        let snapshots = rows_reader.run().map(Ok);
        add("snapshot reader".to_owned(), snapshots.instrument(info_span!("snapshots")).boxed());
        let connections = TaskTracker::new();
        let mut serve = |listener: Listener, router: axum::Router| {
            let name = format!("listener on {}", listener.name());
            let serving = http::serve(listener, router, Arc::clone(&shared), connections.clone());
            add(name, serving.map(Ok).boxed());
        };
        let api = api.map_or_else(axum::Router::new, api::router);
        let router = http::router(Arc::clone(&shared), listeners.metrics.is_empty(), api);
        for listener in listeners.clients {
            serve(listener, router.clone());
        }
        for listener in listeners.metrics {
            serve(listener, http::health_router(Arc::clone(&shared)));
        }
        if let Some(jwks) = &shared.admission.verifier.jwks {
            let interval = config.admission.keys.jwks_refresh;
            let refreshing = Arc::clone(jwks).run(interval, stop.clone()).map(Ok);
            add("reader of published keys".to_owned(), refreshing.boxed());
        }
        connections.close();
        let grace = config.shutdown_grace;
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
            let sockets = usize::try_from(shared.sockets.metrics.sockets.get()).unwrap_or_default();
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
                "gave up waiting for {} after CAMPFIRE_SHUTDOWN_GRACE_SECONDS",
                remaining.join(", ")
            );
        }
        hub_stop.cancel();
        vital.only(HUB).await;
        info!("stopped");
        outcome
    }
}

/// Sockets and connections that the open-file limit leaves room for, besides Postgres, listeners and logs.
fn within_open_files(sockets: AddressLimits, lobby: LobbyLimits) -> (AddressLimits, LobbyLimits) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft_limit = limits.lines().find_map(|line| {
        line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<usize>().ok()
    });
    let Some(soft_limit) = soft_limit else { return (sockets, lobby) };
    let (sockets_max, connections_max) = share(soft_limit, sockets.sockets_max, lobby.connections_max);
    if sockets_max < sockets.sockets_max {
        warn!(
            wanted = sockets.sockets_max,
            room = sockets_max,
            connections = connections_max,
            "the open-file limit leaves room for fewer sockets; raise it with ulimit -n or LimitNOFILE="
        );
    }
    (AddressLimits { sockets_max, ..sockets }, LobbyLimits { connections_max, ..lobby })
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

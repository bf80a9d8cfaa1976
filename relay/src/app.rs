//! Builds the relay from its settings, runs it, and stops it in the order in which data flows.

use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::auth::{ApiKeys, ClaimPaths, Keys};
use crate::config::{self, Config, ListenAddress, OnLostSlot, PublicChannels};
use crate::fanout::{Hub, HubSettings, PresenceLimits, WindowLimits};
use crate::http::{self, Addresses, Rates, Shared};
use crate::ingest::Ingest;
use crate::jwks::Jwks;
use crate::metrics::Metrics;
use crate::policies::{Policies, PolicyLimits};
use crate::snapshot::{Sessions, SnapshotReader};
use crate::wal::{Lsn, WalConfig};

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
    shared: Arc<Shared>,
    hub: Hub,
    client_inputs: mpsc::Receiver<crate::fanout::HubInput>,
    wal_inputs: mpsc::Receiver<crate::fanout::HubInput>,
    ingest: Ingest,
    snapshot_reader: SnapshotReader,
    listeners: Vec<Listener>,
    stop: CancellationToken,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl App {
    /// Checks the settings, binds the addresses, and wires the parts. Nothing runs yet.
    pub async fn build(config: Config) -> Result<Self> {
        let config = Arc::new(config);
        let database = config::database(&config.database_url, |name| std::env::var(name).ok())
            .map_err(anyhow::Error::msg)?;
        let keys = keys(&config)?;
        let jwks = config.jwks.clone().map(|source| Arc::new(Jwks::new(source, keys.clone())));
        if let Some(jwks) = &jwks {
            jwks.load_first().await.context("CAMPFIRE_JWKS cannot be read")?;
        }
        let api_keys = config.api_keys.as_ref().map_or("", |keys| keys.expose());
        let api_keys = ApiKeys::parse(api_keys).context("CAMPFIRE_API_KEYS")?;

        let mut listeners = Vec::new();
        for address in &config.listen {
            listeners.push(bind(address).await?);
        }

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
            },
            window: WindowLimits {
                age_max: Duration::from_secs(config.window_seconds),
                bytes_max: config.window_bytes,
                organization_bytes_max: config.window_org_bytes,
            },
            snapshot_bytes_max: config.snapshot_bytes,
        };
        let (snapshots, snapshot_requests) = mpsc::channel(config.snapshot_queue.into());
        let hub = Hub::new(settings, metrics.clone(), snapshots, Arc::clone(&applied), ready_tx);
        let mut limits = config.limits.clone();
        limits.sockets_max = clamp_sockets(limits.sockets_max);
        let snapshot_reader = SnapshotReader {
            requests: snapshot_requests,
            hub: clients.clone(),
            sessions: Sessions {
                database: Arc::new(database.clone()),
                metrics: metrics.clone(),
                timeout: Duration::from_secs(config.snapshot_seconds),
                bytes_max: config.snapshot_bytes,
                applied: applied.subscribe(),
            },
            sessions_max: config.snapshot_sessions.into(),
            stop: stop.clone(),
        };
        let policy_limits = PolicyLimits {
            sessions: config.policy_sessions,
            queue: config.policy_queue,
            timeout: Duration::from_secs(config.policy_seconds.max(1)),
            denial_age_max: Duration::from_secs(config.policy_denial_seconds),
        };
        let shared = Arc::new(Shared {
            hub: clients,
            limits,
            keys,
            api_keys,
            presence_default: config.presence_default,
            jwks,
            policies: Policies::new(database.clone(), policy_limits, metrics.clone()),
            claim_paths: RwLock::new(ClaimPaths::default()),
            metrics,
            ready,
            problems: watch::Sender::new(0),
            next_socket: AtomicU64::new(1),
            addresses: Addresses::default(),
            rates: Rates::default(),
            tasks: TaskTracker::new(),
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
            create_slot_timeout: Duration::from_secs(config.create_slot_seconds),
            may_replace_slot: config.on_lost_slot == OnLostSlot::Recreate,
            stop: stop.clone(),
        };
        let ingest = Ingest {
            config: Arc::clone(&config),
            wal: wal_config,
            hub: wal,
            applied,
            shared: Arc::clone(&shared),
            stop: stop.clone(),
        };
        Ok(Self { config, shared, hub, client_inputs, wal_inputs, ingest, snapshot_reader, listeners, stop })
    }

    /// Runs until `signal` resolves or an error that only a person can mend, then drains.
    pub async fn run(self, signal: impl Future<Output = &'static str>) -> Result<()> {
        let Self { config, shared, hub, client_inputs, wal_inputs, ingest, snapshot_reader, listeners, stop } =
            self;
        let hub_stop = CancellationToken::new();
        let hub =
            tokio::spawn(hub.run(client_inputs, wal_inputs, hub_stop.clone()).instrument(info_span!("hub")));
        let ingest = ingest.run().instrument(info_span!("wal", slot = %config.slot));
        let mut ingest = tokio::spawn(ingest);
        shared.tasks.spawn(snapshot_reader.run().instrument(info_span!("snapshots")));
        let servers = TaskTracker::new();
        for listener in listeners {
            servers.spawn(serve(listener, http::router(Arc::clone(&shared)), stop.clone()));
        }
        servers.close();
        if let Some(jwks) = &shared.jwks {
            let interval = Duration::from_secs(config.jwks_refresh_seconds.max(1));
            shared.tasks.spawn(Arc::clone(jwks).run(interval, stop.clone()));
        }

        let outcome = tokio::select! {
            signal = signal => {
                info!(signal, "stopping");
                Ok(())
            }
            ended = &mut ingest => match ended {
                Ok(outcome) => outcome.map_err(anyhow::Error::from),
                Err(panic) => Err(panic.into()),
            },
        };

        // In flow order: no more WAL, no more accepts; then sockets get what is queued and a goodbye; the hub last,
        // because sockets still speak to it.
        stop.cancel();
        shared.tasks.close();
        let grace = Duration::from_secs(config.shutdown_grace_seconds);
        let ingesting = !ingest.is_finished();
        let drained = async {
            // It may be making a slot, which has to be taken back.
            if ingesting {
                ingest.await.ok();
            }
            shared.tasks.wait().await;
            servers.wait().await;
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            warn!(
                remaining = shared.tasks.len(),
                grace_seconds = grace.as_secs(),
                "gave up waiting for sockets to close"
            );
        }
        hub_stop.cancel();
        hub.await.context("the hub")?;
        info!("stopped");
        outcome
    }
}

/// The keys that verify tokens; those that are published come later.
fn keys(config: &Config) -> Result<Keys> {
    let secret = config.jwt_secret.as_ref().map_or("", |secret| secret.expose());
    let previous = config.jwt_previous_secrets.as_ref().map_or("", |secrets| secrets.expose());
    let secrets = std::iter::once(secret).chain(previous.split(',').map(str::trim));
    let secrets: Vec<&[u8]> = secrets.filter(|secret| !secret.is_empty()).map(str::as_bytes).collect();
    if secrets.is_empty() && config.jwks.is_none() {
        bail!(
            "no key verifies tokens: set CAMPFIRE_JWT_SECRET to the secret with which your application signs them, or CAMPFIRE_JWKS to its published keys"
        );
    }
    Ok(Keys::from_secrets(secrets))
}

async fn bind(address: &ListenAddress) -> Result<Listener> {
    let listener = match address {
        ListenAddress::Tcp(address) => {
            let listener = TcpListener::bind(address.as_str()).await.with_context(|| {
                format!("cannot listen on {address}; choose another with CAMPFIRE_LISTEN")
            })?;
            info!(address = %listener.local_addr()?, "listening");
            Listener::Tcp(listener)
        }
        ListenAddress::Unix(path) => {
            // A socket file that nobody serves is left over from a relay that was killed.
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
            if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
                std::fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
            }
            let listener = UnixListener::bind(path)
                .with_context(|| format!("cannot listen on unix:{}", path.display()))?;
            info!(path = %path.display(), "listening");
            Listener::Unix(listener)
        }
    };
    Ok(listener)
}

async fn serve(listener: Listener, router: axum::Router, stop: CancellationToken) {
    let stopped = stop.cancelled_owned();
    let served = match listener {
        Listener::Tcp(listener) => {
            use axum::serve::ListenerExt;
            // A frame is a whole message: waiting to fill a segment only adds latency.
            let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
            let router = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
            axum::serve(listener, router).with_graceful_shutdown(stopped).await
        }
        Listener::Unix(listener) => axum::serve(listener, router).with_graceful_shutdown(stopped).await,
    };
    if let Err(error) = served {
        warn!(%error, "server ended");
    }
}

/// Sockets that the open-file limit leaves room for, besides Postgres, listeners and logs.
fn clamp_sockets(wanted: usize) -> usize {
    const OTHER_FILES: usize = 64;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft_limit = limits.lines().find_map(|line| {
        line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<usize>().ok()
    });
    let Some(room) = soft_limit.map(|limit| limit.saturating_sub(OTHER_FILES)) else { return wanted };
    if room < wanted {
        warn!(
            wanted,
            room,
            "the open-file limit leaves room for fewer sockets; raise it with ulimit -n or LimitNOFILE="
        );
    }
    wanted.min(room)
}

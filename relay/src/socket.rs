//! Stage 5: WebSockets. One task a socket.

mod message;
mod metrics;
mod session;
mod settings;
mod unfinished;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span};

pub use self::metrics::SocketMetrics;
use self::session::Session;
pub use self::settings::SocketSettings;
use self::unfinished::Unfinished;
use crate::admission::{Admission, Headers, Place};
use crate::auth::Credential;
use crate::fanout::{HubInput, HubSettings, SocketId, Unread};
use crate::metrics::{ByReason, Registry};
use crate::protocol::Vsn;

/// All sockets, and what each of them may reach.
pub struct Sockets {
    hub: mpsc::Sender<HubInput>,
    settings: SocketSettings,
    hub_settings: HubSettings,
    admission: Arc<Admission>,
    pub(crate) metrics: SocketMetrics,
    /// Messages of clients dropped: the hub drops some, too.
    pub(crate) messages_dropped: ByReason,
    /// Memory of all sockets: what they have yet to read, and what they have begun to say.
    pub(crate) unread: Arc<Unread>,
    pub(crate) unfinished: Arc<Unfinished>,
    /// A task for each, from the answer to its handshake on.
    pub(crate) tasks: TaskTracker,
    last_id: AtomicU64,
    stop: CancellationToken,
}

/// What a handshake settles about a socket.
pub(crate) struct Handshake {
    pub(crate) vsn: Vsn,
    /// What the socket connected with; a join without a token of its own runs with it.
    pub(crate) credential: Credential,
    /// What policies see of it: its headers that begin with `x-`.
    pub(crate) headers: Headers,
    /// The socket's place among those of its address.
    pub(crate) place: Place,
}

impl Sockets {
    pub fn build(
        settings: SocketSettings,
        hub_settings: HubSettings,
        hub: mpsc::Sender<HubInput>,
        messages_dropped: ByReason,
        admission: Arc<Admission>,
        registry: &mut Registry,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            hub,
            settings,
            hub_settings,
            admission,
            metrics: SocketMetrics::new(registry),
            messages_dropped,
            unread: Unread::new(settings.unread_bytes_max),
            // One is always allowed, however large.
            unfinished: Unfinished::new(settings.unfinished_bytes_max.max(settings.frame_bytes_max)),
            tasks: TaskTracker::new(),
            last_id: AtomicU64::new(0),
            stop,
        })
    }

    /// Serves a socket once its connection is no longer HTTP.
    pub(crate) fn open(self: &Arc<Self>, handshake: Handshake, upgrading: OnUpgrade) {
        let id = SocketId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let session = Session::new(id, handshake, Arc::clone(self));
        let serve = async move {
            match upgrading.await {
                Ok(upgraded) => session.run(TokioIo::new(upgraded)).await,
                Err(error) => debug!(%error, "handshake not completed"),
            }
        };
        self.tasks.spawn(serve.instrument(info_span!("socket", socket_id = id.0)));
    }
}

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
pub use self::unfinished::Unfinished;
use crate::admission::{Admission, Headers, Place};
use crate::auth::Credential;
use crate::fanout::{HubInput, HubSettings, SocketId, Unread};
use crate::metrics::ByReason;
use crate::protocol::Vsn;

/// All sockets, and what each of them may reach.
pub struct Sockets {
    pub hub: mpsc::Sender<HubInput>,
    pub settings: SocketSettings,
    pub hub_settings: HubSettings,
    pub admission: Arc<Admission>,
    pub metrics: SocketMetrics,
    /// Messages of clients dropped: the hub drops some, too.
    pub messages_dropped: ByReason,
    /// Memory of all sockets: what they have yet to read, and what they have begun to say.
    pub unread: Arc<Unread>,
    pub unfinished: Arc<Unfinished>,
    /// A task for each, from the answer to its handshake on.
    pub tasks: TaskTracker,
    pub last_id: AtomicU64,
    pub stop: CancellationToken,
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

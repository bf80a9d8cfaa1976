//! A relay to which somebody else brings the connections, and what the stream would say: as a process has it, but
//! without a listener and without Postgres. fuzz/ speaks HTTP to it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::fanout::HubInput;
use crate::http::{self, Shared};

/// The part of a relay that clients see.
pub struct Door {
    shared: Arc<Shared>,
    router: Router,
}

impl App {
    /// Runs the hub, and nothing that reads from or writes to Postgres.
    pub fn into_door(self) -> Door {
        let Self { shared, hub, client_inputs, wal_inputs, .. } = self;
        #[expect(clippy::disallowed_methods, reason = "a door fails every join once this has ended")]
        tokio::spawn(hub.run(client_inputs, wal_inputs, CancellationToken::new()));
        let router = http::router(Arc::clone(&shared), true, Router::new());
        Door { shared, router }
    }
}

impl Door {
    /// What the stream tells the hub goes here.
    pub fn hub(&self) -> &mpsc::Sender<HubInput> {
        &self.shared.hub
    }

    /// Whether clients are let in.
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// Serves a connection from that address (None: of a unix socket) until it ends or is a WebSocket.
    pub async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: Option<IpAddr>,
    ) {
        http::receive(stream, address, self.router.clone(), Arc::clone(&self.shared)).await;
    }
}

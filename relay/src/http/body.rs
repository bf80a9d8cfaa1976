//! The bodies of requests, read within the limits of the lobby.

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use bytes::BytesMut;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Shared;
use super::peer::Connected;

/// There is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    TookTooLong,
    TooLarge,
    Unreadable,
    /// The relay stops.
    Stopping,
}

impl Shared {
    /// The body, if it is there in time and has at most so many bytes. Nobody waits for a body that never comes: neither
    /// the relay's places for connections, nor a relay that stops.
    pub(crate) async fn read_body(
        &self,
        head: &Parts,
        body: Body,
        bytes_max: usize,
    ) -> Result<Bytes, BodyError> {
        let mut reading = head.extensions.get::<Connected>().map(|connected| connected.seat.reading());
        let limits = self.lobby.limits();
        let mut body = Limited::new(body, bytes_max.min(limits.body_bytes_max));
        let body = async {
            let mut bytes = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame?.into_data() else { continue };
                if let Some(reading) = &mut reading {
                    reading.received(data.len());
                }
                bytes.extend_from_slice(&data);
            }
            Ok::<_, axum::BoxError>(bytes.freeze())
        };
        let body = tokio::select! {
            biased;
            body = tokio::time::timeout(limits.body, body) => body,
            () = self.stop.cancelled() => return Err(BodyError::Stopping),
        };
        match body {
            Err(_) => Err(BodyError::TookTooLong),
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
            Ok(Err(_)) => Err(BodyError::Unreadable),
        }
    }
}

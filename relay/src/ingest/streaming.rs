//! One connection's stream: hands to the hub what it brings, confirms what the hub has applied, and lets clients in once
//! it has caught up.

use std::time::Duration;

use super::Ingest;
use super::catch_up::CatchUp;
use super::handed::Handed;
use super::history::History;
use super::translator::Translator;
use crate::fanout::HubInput;
use crate::postgres::Lsn;
use crate::sql::SqlError;
use crate::wal::WalStream;

/// How often feedback is considered while nothing comes.
const TICK: Duration = Duration::from_secs(1);

pub(super) struct Streaming<'a> {
    ingest: &'a Ingest,
    translator: Translator<'a>,
    catch_up: Option<CatchUp>,
    handed: Handed,
}

impl<'a> Streaming<'a> {
    /// Of a stream that starts where its slot is confirmed. Clients are let in once it has passed the fence.
    pub(super) fn new(ingest: &'a Ingest, translator: Translator<'a>, fence: Lsn) -> Self {
        let handed = Handed::new(translator.attachment.confirmed_flush_lsn);
        Self { ingest, translator, catch_up: Some(CatchUp::new(fence)), handed }
    }

    /// The end of what was handed to the hub.
    pub(super) fn handed(&self) -> Lsn {
        self.handed.end()
    }

    pub(super) async fn run(&mut self, mut stream: WalStream, history: &mut History) -> Result<(), SqlError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                batch = stream.next() => {
                    let (changes, applied) = self.translator.translate(batch?).await?;
                    self.ingest.hub.send(HubInput::Changes { changes, applied }).await.ok();
                    if let Some(end) = applied {
                        self.handed.push(end);
                        self.advance_catch_up(end, history).await;
                    }
                    // Not before the hub was given what they routed: what was not handed on is read again, by the routes
                    // from before.
                    if let Some(routes) = self.translator.new_routes(history.routes.is_some()) {
                        history.routes = Some(routes);
                    }
                }
                _ = tick.tick() => {}
            }
            let reported = *self.ingest.applied.borrow();
            if let Some(end) = self.handed.confirmable(reported) {
                stream.confirm_applied(end);
            }
        }
    }

    async fn advance_catch_up(&mut self, end: Lsn, history: &mut History) {
        if self.catch_up.take_if(|catch_up| catch_up.is_over(end)).is_none() {
            return;
        }
        self.translator.catch_up();
        // Not at the attach: a row that ends every connection at the same place must not be retried at full speed.
        history.backoff.reset();
        history.pass();
        self.ingest.metrics.slot_stopped.set(0);
        self.ingest.hub.send(HubInput::CaughtUp).await.ok();
    }
}

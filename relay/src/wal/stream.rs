//! The running stream: one task owns the socket, so that no consumer, however slow, delays a status update.
//!
//! A consumer that stalls fills the queue; then the task stops reading, and the server waits with what it has. It
//! does not cut us off meanwhile, since updates go out by the clock. What cannot work then is a fast shutdown of
//! Postgres: its keepalives stand behind the rows that nobody takes.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::error::SqlState;
use tracing::{Instrument, debug, info_span};

use super::feedback::{Feedback, Status};
use super::{WalConfig, WalError};
use crate::postgres::{Frames, Lsn, PostgresError, XLOG_DATA_HEADER_BYTES, parse_error, unexpected};

/// Frames that arrived together: the consumer pays one wake-up for all of them.
pub type Batch = Vec<WalFrame>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalFrame {
    /// One pgoutput message. A slice of the read buffer, 256 KiB of which stay in memory as long as it does: copy
    /// what is to be kept.
    Data(Bytes),
    /// Everything below `end` has been sent. The consumer may confirm it when no transaction is open.
    Keepalive { end: Lsn },
}

// The queue holds one batch, the consumer one, and one is being filled. Together with the read buffer that bounds
// what waits between the socket and the consumer.
const BATCH_FRAMES_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How often the position to confirm is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The server is given up when it says nothing for its own `wal_sender_timeout`, though asked several times; this
/// where it has none.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
const SILENCE_LIMIT_MIN: Duration = Duration::from_secs(5);
const STATUS_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// What a server that hung up had to say is read as long as this.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

pub struct WalStream {
    batches: mpsc::Receiver<Result<Batch, WalError>>,
    applied: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
    reader: JoinHandle<()>,
}

impl WalStream {
    /// The next frames, or why there are no more. Safe to cancel.
    pub async fn next(&mut self) -> Result<Batch, WalError> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => Err(PostgresError::ConnectionLost(io::ErrorKind::NotConnected.into()).into()),
        }
    }

    /// Says that everything below `end` is applied: a Commit's end, or a keepalive's with no transaction open. The
    /// slot follows when the window has passed.
    pub fn confirm_applied(&self, end: Lsn) {
        self.applied.fetch_max(end.0, Ordering::Release);
    }

    /// What the slot has been moved to: what lies below does not come again after a restart.
    pub fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Ordering::Acquire))
    }

    /// Takes leave of the server, which then frees the slot at once. Dropping the stream does the same without
    /// waiting for it.
    pub async fn close(mut self) {
        self.batches.close();
        // What waits in the queue would keep the task from its leave.
        while self.batches.recv().await.is_some() {}
        if let Err(error) = self.reader.await {
            debug!(%error, "the stream's task did not end well");
        }
    }
}

pub(super) struct StreamSettings {
    slot_name: String,
    window: Duration,
    window_wal_bytes: u64,
    confirmed_flush_lsn: Lsn,
    status_interval: Duration,
    silence_limit: Duration,
}

impl StreamSettings {
    pub(super) fn new(
        config: &WalConfig,
        wal_sender_timeout_ms: u64,
        confirmed_flush_lsn: Lsn,
    ) -> StreamSettings {
        let server_timeout =
            Some(Duration::from_millis(wal_sender_timeout_ms)).filter(|limit| !limit.is_zero());
        let status_interval = server_timeout
            .map_or(config.status_interval, |limit| config.status_interval.min(limit / 3))
            .max(STATUS_INTERVAL_MIN);
        StreamSettings {
            slot_name: config.settings.slot_name.clone(),
            window: config.window,
            window_wal_bytes: config.settings.window_wal_bytes,
            confirmed_flush_lsn,
            status_interval,
            // It has to be asked a few times before.
            silence_limit: server_timeout
                .unwrap_or(SILENCE_LIMIT)
                .max(SILENCE_LIMIT_MIN)
                .max(status_interval.saturating_mul(3)),
        }
    }
}

pub(super) fn spawn(frames: Frames, settings: StreamSettings) -> WalStream {
    let (batches_tx, batches) = mpsc::channel(1);
    let applied = Arc::new(AtomicU64::new(Lsn::INVALID.0));
    let confirmed = Arc::new(AtomicU64::new(settings.confirmed_flush_lsn.0));
    let reader = WalReader {
        frames,
        applied: Arc::clone(&applied),
        confirmed: Arc::clone(&confirmed),
        feedback: Feedback::new(settings.window, settings.window_wal_bytes, settings.confirmed_flush_lsn),
        received: settings.confirmed_flush_lsn,
        pending: Batch::new(),
        pending_bytes: 0,
        is_reply_due: false,
        heard_at: Instant::now(),
        status_interval: settings.status_interval,
        silence_limit: settings.silence_limit,
    };
    let span = info_span!("wal", slot = %settings.slot_name);
    #[expect(
        clippy::disallowed_methods,
        reason = "the stream holds its handle: ingest awaits it once the batches end"
    )]
    let running = tokio::spawn(reader.run(batches_tx).instrument(span));
    WalStream { batches, applied, confirmed, reader: running }
}

struct WalReader {
    frames: Frames,
    applied: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
    feedback: Feedback,
    received: Lsn,
    pending: Batch,
    pending_bytes: usize,
    is_reply_due: bool,
    heard_at: Instant,
    status_interval: Duration,
    silence_limit: Duration,
}

impl WalReader {
    async fn run(mut self, batches_tx: mpsc::Sender<Result<Batch, WalError>>) {
        match self.stream(&batches_tx).await {
            Ok(()) => self.take_leave().await,
            Err(error) => {
                let error = self.last_words(error).await;
                // Nobody listens if the consumer has gone at the same time, and nobody needs to.
                if !self.pending.is_empty() {
                    let _ = batches_tx.send(Ok(mem::take(&mut self.pending))).await;
                }
                let _ = batches_tx.send(Err(error)).await;
            }
        }
    }

    /// Runs until the consumer goes, or the connection does.
    async fn stream(&mut self, batches_tx: &mpsc::Sender<Result<Batch, WalError>>) -> Result<(), WalError> {
        let mut status = interval(self.status_interval);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sample = interval(SAMPLE_INTERVAL);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first frames may have come together with the answer to START_REPLICATION.
        self.take_frames()?;
        loop {
            if mem::take(&mut self.is_reply_due) {
                self.send_status(Lsn::INVALID, false).await?;
            }
            let has_room = self.has_room();
            tokio::select! {
                biased;
                // Stop.
                () = batches_tx.closed() => return Ok(()),
                // The server must hear of us, whatever else there is to do.
                _ = status.tick() => self.beat().await?,
                // The slot moves.
                _ = sample.tick() => self.confirm().await?,
                // What was read goes on.
                permit = batches_tx.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => {
                        permit.send(Ok(mem::take(&mut self.pending)));
                        self.pending_bytes = 0;
                    }
                    Err(_) => return Ok(()),
                },
                // More is read.
                read = self.frames.fill(), if has_room => {
                    read?;
                    self.heard_at = Instant::now();
                    self.take_frames()?;
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.pending.len() < BATCH_FRAMES_MAX && self.pending_bytes < BATCH_BYTES_MAX
    }

    /// Sends an update by the clock. To updates the server answers nothing, so when it has been silent it is asked
    /// to.
    async fn beat(&mut self) -> Result<(), WalError> {
        if !self.has_room() {
            // Who does not listen cannot call the other silent.
            self.heard_at = Instant::now();
        }
        let silence = self.heard_at.elapsed();
        if silence > self.silence_limit {
            return Err(WalError::Silent { silence });
        }
        Ok(self.send_status(Lsn::INVALID, silence >= self.status_interval).await?)
    }

    /// Moves the slot if it is time: one update with the position, and one at once that takes it back.
    async fn confirm(&mut self) -> Result<(), PostgresError> {
        // The consumer cannot have applied what has not come; this guards the slot against one that says so.
        let applied = Lsn(self.applied.load(Ordering::Acquire)).min(self.received);
        if let Some(lsn) = self.feedback.sample(Instant::now(), self.received, applied) {
            self.send_status(lsn, false).await?;
            self.confirmed.store(self.feedback.confirmed().0, Ordering::Release);
        }
        Ok(())
    }

    async fn send_status(&mut self, flush: Lsn, reply_requested: bool) -> Result<(), PostgresError> {
        let now = SystemTime::now();
        let status = Status { write: self.received, flush, reply_requested };
        let mut updates = BytesMut::with_capacity(2 * 64);
        status.encode(now, &mut updates);
        if flush != Lsn::INVALID {
            Status { flush: Lsn::INVALID, ..status }.encode(now, &mut updates);
        }
        self.frames.send(&updates).await
    }

    /// Takes every whole frame that has been read.
    fn take_frames(&mut self) -> Result<(), WalError> {
        while let Some(frame) = self.frames.buffered()? {
            match frame.tag {
                b'd' => self.take_copy_data(frame.body)?,
                // A shutdown says one of them, or both.
                b'c' | b'C' => return Err(WalError::StreamEnded),
                b'E' => {
                    let error = parse_error(frame.body)?;
                    return Err(if error.is(&SqlState::UNDEFINED_OBJECT) {
                        WalError::PublicationUnknown(error)
                    } else {
                        PostgresError::from(error).into()
                    });
                }
                b'N' | b'S' => {}
                other => return Err(unexpected(other, "the stream").into()),
            }
        }
        Ok(())
    }

    fn take_copy_data(&mut self, mut body: Bytes) -> Result<(), PostgresError> {
        let truncated = || PostgresError::Protocol("a CopyData that ends early".to_owned());
        match body.try_get_u8() {
            Ok(b'w') if body.len() >= XLOG_DATA_HEADER_BYTES - 1 => {
                // Start and end are the same in logical replication, and zero for descriptions.
                let start = Lsn(body.get_u64());
                self.received = self.received.max(start);
                body.advance(XLOG_DATA_HEADER_BYTES - 1 - 8);
                self.pending_bytes += body.len();
                self.pending.push(WalFrame::Data(body));
                Ok(())
            }
            Ok(b'k') if body.len() == 8 + 8 + 1 => {
                let end = Lsn(body.get_u64());
                self.received = self.received.max(end);
                self.is_reply_due |= body[8] == 1;
                match self.pending.last_mut() {
                    // A later one says all that an earlier one did.
                    Some(WalFrame::Keepalive { end: earlier }) => *earlier = end.max(*earlier),
                    _ => self.pending.push(WalFrame::Keepalive { end }),
                }
                Ok(())
            }
            Ok(b'w' | b'k') | Err(_) => Err(truncated()),
            Ok(other) => Err(unexpected(other, "a CopyData")),
        }
    }

    /// A server that hung up may have said why before: a write fails at once, while its words wait to be read.
    async fn last_words(&mut self, error: WalError) -> WalError {
        if !matches!(error, WalError::Postgres(PostgresError::ConnectionLost(_))) {
            return error;
        }
        let read = async {
            loop {
                if let Err(better) = self.take_frames() {
                    return Some(better);
                }
                self.frames.fill().await.ok()?;
            }
        };
        timeout(LAST_WORDS_TIMEOUT, read).await.ok().flatten().unwrap_or(error)
    }

    async fn take_leave(&mut self) {
        let mut leave = BytesMut::new();
        frontend::copy_done(&mut leave);
        frontend::terminate(&mut leave);
        if let Err(error) = self.frames.send(&leave).await {
            debug!(%error, "could not take leave of Postgres");
        }
    }
}

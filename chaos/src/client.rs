//! A client as an application would write it, that notes everything it sees.
//!
//! It handles frames strictly in the order they come, also while an answer is awaited: what a heartbeat's position
//! covers depends on whether it came before or after the answer to a join.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::frame::Frame;
use campfire_tests::socket::{Closed, Reply as Answer, Socket, default_config};
use campfire_tests::{timestamp, token};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::journal::{Asked, End, Journal, Record, Reply, Stay, Texts, now};
use crate::latency::Latency;
use crate::model::canonical;
use crate::plan::{ClientSpec, Manner, Who};
use crate::position::Position;

/// The event that ends a run, once on each channel.
pub const LAST: &str = "chaos:last";

const BEAT_EVERY: Duration = Duration::from_millis(700);
/// The code of a close for not reading.
const TRY_AGAIN_LATER: u16 = 1013;

const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// A socket on which nothing at all came for so long, though heartbeats are answered at once, is half-open.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// Before a client comes back, and before it joins a channel again that was closed or refused.
const PAUSE_MS: std::ops::Range<u64> = 50..600;

/// How long a client that reads slowly looks away.
const NAP_MS: std::ops::Range<u64> = 0..120;

/// What all clients share.
pub struct Shared {
    /// Ports of 127.0.0.1 that lead to relays.
    pub ports: Vec<u16>,
    pub api_key: String,
    pub jwt_secret: String,
    pub texts: Texts,
    /// Events received.
    pub delivered: AtomicU64,
    /// Channels on which the last event came.
    pub finished: AtomicUsize,
    /// By how many seconds the clocks of every fourth client are wrong.
    pub clock_step: AtomicI64,
    /// From now on slow clients read as fast as they can.
    pub hurry: AtomicBool,
    /// From commit to live delivery.
    pub latency: Latency,
}

impl Shared {
    /// Seconds by which this client's clock is wrong.
    fn step_of(&self, client: usize) -> i64 {
        if client.is_multiple_of(4) { self.clock_step.load(Ordering::Relaxed) } else { 0 }
    }
}

/// Where a channel of a client is.
enum Place {
    Out {
        again_at: Instant,
    },
    Asking {
        reference: String,
        asked: Asked,
        asked_at: i64,
    },
    /// In the journal's stay of that number.
    In {
        stay: usize,
    },
}

struct Channel {
    name: Arc<str>,
    topic: String,
    place: Place,
    /// Everything up to here has come: where to go on from.
    last: Option<Position>,
    /// The last row of realtime.messages that came, and its id.
    last_row: Option<(Position, String)>,
    /// Events of a replay that are still to come before the reply's position may be believed.
    pending: Option<(u64, Position)>,
    last_error: String,
    finished: bool,
}

pub struct Client {
    shared: Arc<Shared>,
    rng: StdRng,
    channels: Vec<Channel>,
    tag: Option<u16>,
    pub journal: Journal,
}

impl Client {
    pub fn new(shared: Arc<Shared>, spec: ClientSpec) -> Self {
        let channels = spec.channels.iter().map(|name| Channel {
            name: name.as_str().into(),
            topic: format!("realtime:{name}"),
            place: Place::Out { again_at: Instant::now() },
            last: None,
            last_row: None,
            pending: None,
            last_error: String::new(),
            finished: false,
        });
        Self {
            channels: channels.collect(),
            rng: StdRng::seed_from_u64(spec.seed),
            shared,
            tag: None,
            journal: Journal {
                client: spec,
                stays: Vec::new(),
                scandals: Vec::new(),
                dropped: Vec::new(),
                sockets: 0,
            },
        }
    }

    /// Lives until stopped; gives what it noted.
    pub async fn run(mut self, mut stop: tokio::sync::watch::Receiver<bool>) -> Journal {
        loop {
            let stopped = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                // How a session ends is in the journal; why matters to nobody.
                _ = self.session() => false,
            };
            if stopped {
                return self.journal;
            }
            for channel in &mut self.channels {
                if let Place::In { stay } = channel.place {
                    self.journal.stays[stay].end = End::Cut;
                }
                channel.place = Place::Out { again_at: Instant::now() };
                channel.pending = None;
            }
            let pause = self.rng.random_range(PAUSE_MS);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return self.journal,
                () = sleep(Duration::from_millis(pause)) => {}
            }
        }
    }

    /// One socket, until it ends, which is always an error.
    async fn session(&mut self) -> Result<()> {
        let port = self.shared.ports[self.rng.random_range(0..self.shared.ports.len())];
        let address = format!("127.0.0.1:{port}");
        let vsn = self.journal.client.vsn;
        let connecting = Socket::try_connect(&address, &self.shared.api_key, vsn);
        let Ok(mut socket) = timeout(HANDSHAKE_PATIENCE, connecting).await?? else { bail!("refused") };
        self.journal.sockets += 1;
        let mut beat_at = Instant::now() + BEAT_EVERY;
        let mut heard_at = Instant::now();
        loop {
            let join_at = self.join_what_is_out(&mut socket).await?;
            let wake_at = join_at.map_or(beat_at, |join_at| join_at.min(beat_at));
            tokio::select! {
                frame = socket.next_frame() => {
                    let frame = match frame {
                        Ok(frame) => frame,
                        Err(error) => {
                            // What no client could read is the relay's fault; an end of the socket is not, unless
                            // it says that we do not read.
                            if let Some(Closed { code: Some(TRY_AGAIN_LATER), reason }) = error.downcast_ref() {
                                self.journal.dropped.push(reason.clone());
                            } else if !is_end(&error) {
                                self.journal.scandals.push(format!("a frame that breaks clients: {error:#}"));
                            }
                            return Err(error);
                        }
                    };
                    heard_at = Instant::now();
                    self.handle(frame)?;
                    if self.journal.client.manner == Manner::Slow && !self.shared.hurry.load(Ordering::Relaxed) {
                        sleep(Duration::from_millis(self.rng.random_range(NAP_MS))).await;
                    }
                }
                () = sleep_until(wake_at) => {
                    if Instant::now() >= beat_at {
                        timeout(HANDSHAKE_PATIENCE, socket.send_heartbeat()).await??;
                        beat_at = Instant::now() + BEAT_EVERY;
                    }
                }
            }
            ensure!(heard_at.elapsed() < SILENCE_MAX, "half-open");
        }
    }

    /// Asks for the channels whose time it is; tells when the next is due.
    async fn join_what_is_out(&mut self, socket: &mut Socket) -> Result<Option<Instant>> {
        let mut next = None::<Instant>;
        for index in 0..self.channels.len() {
            let Place::Out { again_at } = self.channels[index].place else { continue };
            if again_at > Instant::now() {
                next = Some(next.map_or(again_at, |next| next.min(again_at)));
                continue;
            }
            let asked = self.wish(index);
            let mut config = default_config();
            config["private"] = is_private(&self.channels[index].name).into();
            let wish = match asked {
                Asked::Nothing => None,
                Asked::PositionOnly => Some(json!({})),
                Asked::After(position) => {
                    // By the row's own id, where the last event was a row of realtime.messages, is as good.
                    let row = self.channels[index].last_row.as_ref();
                    match row.filter(|(at, _)| *at == position && self.rng.random()) {
                        Some((_, row)) => Some(json!({"after": row})),
                        None => Some(json!({"after": position.id(self.tag.context("a tag")?)})),
                    }
                }
                Asked::Since { millis, limit } => Some(json!({"since": millis, "limit": limit})),
                Asked::Snapshot { rows } => Some(json!({"snapshot": rows})),
            };
            if let Some(wish) = wish {
                config["broadcast"]["replay"] = wish;
            }
            let token = self.token();
            let name = Arc::clone(&self.channels[index].name);
            let sending = socket.send_join(&name, Some(&token), config);
            let reference = timeout(HANDSHAKE_PATIENCE, sending).await??;
            self.channels[index].place = Place::Asking { reference, asked, asked_at: now() };
        }
        Ok(next)
    }

    fn wish(&mut self, index: usize) -> Asked {
        let since = |seconds_ago: i64, step: i64| now() / 1000 + (step - seconds_ago) * 1000;
        let (manner, last) = (self.journal.client.manner, self.channels[index].last);
        let name = &self.channels[index].name;
        if is_private(name) && !has_rows(name) {
            // There is no other way to begin: by time, the database's rows answer too, which have no position.
            return last.filter(|_| manner != Manner::Stock).map_or(Asked::Nothing, Asked::After);
        }
        match (manner, last) {
            (Manner::Stock, _) => Asked::Nothing,
            (Manner::Since, _) => {
                let step = self.shared.step_of(self.journal.client.number);
                let millis = since(self.rng.random_range(0..15), step);
                Asked::Since { millis, limit: self.rng.random_range(1..=1000) }
            }
            (Manner::Snapshot, Some(last)) if self.rng.random() => Asked::After(last),
            (Manner::Snapshot, _) => Asked::Snapshot { rows: self.rng.random_range(1..=200) },
            (Manner::Resuming | Manner::Slow, None) => Asked::PositionOnly,
            (Manner::Resuming | Manner::Slow, Some(last)) => Asked::After(last),
        }
    }

    /// Minted for each join, by the client's own clock: five minutes, so that a wrong clock makes one that has ended.
    fn token(&self) -> String {
        let mut claims = match self.journal.client.who {
            Who::Agent { organization, user } => token::agent_claims(organization, user),
            Who::Visitor { organization, conversation } => token::visitor_claims(organization, conversation),
        };
        let step = self.shared.step_of(self.journal.client.number);
        claims["exp"] = (token::now().cast_signed() + step + 300).into();
        token::mint(&self.shared.jwt_secret, &claims)
    }

    fn handle(&mut self, frame: Frame) -> Result<()> {
        if frame.topic == "phoenix" {
            return self.beat_answered(&frame);
        }
        let Some(index) = self.channels.iter().position(|channel| channel.topic == frame.topic) else {
            self.journal.scandals.push(format!("a frame of a topic that was never joined: {}", frame.topic));
            return Ok(());
        };
        match frame.event.as_str() {
            "phx_reply" => self.join_answered(index, &frame),
            "broadcast" => self.broadcast(index, frame),
            "system" => {
                let message = frame.payload["message"].as_str().unwrap_or_default();
                if frame.payload["status"] == "ok" && message.starts_with("ReplayIncomplete") {
                    let up_to = self.position(frame.payload["position"].as_str().unwrap_or_default())?;
                    self.note(index, Record::Loss { at: now(), up_to });
                    self.channels[index].pending = None;
                    // It is as if all of it had come: the client has been told.
                    self.advance(index, up_to);
                } else {
                    message.clone_into(&mut self.channels[index].last_error);
                }
                Ok(())
            }
            "phx_close" | "phx_error" => {
                if let Place::In { stay } = self.channels[index].place {
                    self.journal.stays[stay].end = End::Closed(self.channels[index].last_error.clone());
                }
                self.leave_for_a_while(index);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn leave_for_a_while(&mut self, index: usize) {
        let pause = Duration::from_millis(self.rng.random_range(PAUSE_MS));
        self.channels[index].place = Place::Out { again_at: Instant::now() + pause };
        self.channels[index].pending = None;
    }

    fn beat_answered(&mut self, frame: &Frame) -> Result<()> {
        let Some(id) = frame.payload["response"]["position"].as_str() else { return Ok(()) };
        let position = self.position(id)?;
        for index in 0..self.channels.len() {
            if let Place::In { stay } = self.channels[index].place
                && self.journal.stays[stay].reply.is_some()
            {
                self.note(index, Record::Head(position));
                self.advance(index, position);
            }
        }
        Ok(())
    }

    fn join_answered(&mut self, index: usize, frame: &Frame) -> Result<()> {
        let Place::Asking { reference, asked, asked_at } = &self.channels[index].place else { return Ok(()) };
        if frame.reference.as_ref() != Some(reference) {
            return Ok(());
        }
        let (asked, asked_at) = (*asked, *asked_at);
        let answer = Answer {
            status: frame.payload["status"].as_str().unwrap_or_default().to_owned(),
            response: frame.payload["response"].clone(),
        };
        if !answer.is_ok() {
            self.leave_for_a_while(index);
            return Ok(());
        }
        let reply = match asked {
            Asked::Nothing => None,
            _ => Some(self.replay(&answer.response["replay"])?),
        };
        let channel = &mut self.channels[index];
        channel.place = Place::In { stay: self.journal.stays.len() };
        channel.pending = reply.map(|reply| (reply.count, reply.position));
        self.journal.stays.push(Stay {
            channel: Arc::clone(&channel.name),
            asked,
            asked_at,
            joined_at: now(),
            reply,
            records: Vec::new(),
            end: End::Running,
        });
        self.believe_if_all_came(index);
        Ok(())
    }

    fn replay(&mut self, said: &Value) -> Result<Reply> {
        let position = self.position(said["position"].as_str().context("a reply without position")?)?;
        let count = said["count"].as_u64().context("a reply without count")?;
        let complete = said["complete"].as_bool().context("a reply without complete")?;
        Ok(Reply { complete, position, count })
    }

    fn broadcast(&mut self, index: usize, frame: Frame) -> Result<()> {
        let body = frame.payload;
        let name = body["event"].as_str().unwrap_or_default();
        let meta = &body["meta"];
        if meta["snapshot"] == true {
            let (name, payload) = (self.shared.texts.keep(name), canonical(&body["payload"]));
            let record = Record::Row { name, payload: self.shared.texts.keep(&payload) };
            self.note(index, record);
            self.one_of_the_replay(index);
            return Ok(());
        }
        // Rows of realtime.messages have an id of their own, and the position beside it.
        let Some(id) = meta["position"].as_str().or(meta["id"].as_str()) else {
            // Who comes online is no row; what a client says would carry a sender.
            let is_status = name.starts_with("agent:status:") && meta.is_null();
            let facts = ["message:", "conversation:", "read:", "agent:"];
            if facts.iter().any(|fact| name.starts_with(fact)) && !is_status {
                self.journal.scandals.push(format!("{name} without an id on {}", frame.topic));
            }
            return Ok(());
        };
        let position = self.position(id)?;
        if let (Some(row), true) = (meta["id"].as_str(), meta["position"].is_string()) {
            self.channels[index].last_row = Some((position, row.to_owned()));
        }
        self.shared.delivered.fetch_add(1, Ordering::Relaxed);
        let record = Record::Event {
            position,
            name: self.shared.texts.keep(name),
            payload: self.shared.texts.keep(&canonical(&body["payload"])),
            committed_at: meta["committed_at"].as_str().and_then(timestamp::micros).unwrap_or_default(),
            replayed: meta["replayed"] == true,
        };
        if let Record::Event { committed_at, replayed: false, .. } = record
            && self.journal.client.manner != Manner::Slow
        {
            self.shared.latency.note(committed_at);
        }
        self.note(index, record);
        self.advance(index, position);
        self.one_of_the_replay(index);
        if name == LAST && !std::mem::replace(&mut self.channels[index].finished, true) {
            self.shared.finished.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn one_of_the_replay(&mut self, index: usize) {
        if let Some((count, _)) = &mut self.channels[index].pending {
            *count = count.saturating_sub(1);
        }
        self.believe_if_all_came(index);
    }

    /// The position of a join's reply is good once all of its events have come.
    fn believe_if_all_came(&mut self, index: usize) {
        if let Some((0, position)) = self.channels[index].pending {
            self.channels[index].pending = None;
            self.advance(index, position);
        }
    }

    fn advance(&mut self, index: usize, position: Position) {
        let last = &mut self.channels[index].last;
        *last = Some(last.map_or(position, |last| last.max(position)));
    }

    fn note(&mut self, index: usize, record: Record) {
        match self.channels[index].place {
            Place::In { stay } => self.journal.stays[stay].records.push(record),
            _ => self.journal.scandals.push(format!(
                "{record:?} on {}, which is not joined at this moment",
                self.channels[index].name
            )),
        }
    }

    fn position(&mut self, id: &str) -> Result<Position> {
        let Some((tag, position)) = Position::parse(id) else {
            self.journal.scandals.push(format!("an id of another form: {id}"));
            bail!("an id of another form")
        };
        let known = *self.tag.get_or_insert(tag);
        if known != tag {
            self.journal.scandals.push(format!("an id of another database: {id}"));
        }
        Ok(position)
    }
}

/// Whether policies decide who may join.
pub(crate) fn is_private(channel: &str) -> bool {
    !channel.strip_prefix("bcast:").unwrap_or(channel).starts_with("org:")
}

/// Whether it is a private channel to which rows go: it has the replay of an organization's.
pub(crate) fn has_rows(channel: &str) -> bool {
    channel.starts_with("shop:")
}

/// Whether a socket merely ended, in whatever way.
fn is_end(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("closed the socket") || text.contains("cannot read")
}

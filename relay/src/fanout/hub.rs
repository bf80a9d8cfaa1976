//! The hub: one owner of everything that decides who gets what, in one order.
//!
//! Inputs come over two bounded queues, from Postgres and from clients. Applying one never waits and never asks the
//! database: the answer is a function of the hub's state, so a join and a change cannot race. Frames go into
//! outboxes, which never wait either.

mod admit;
mod announce;
mod changes;
mod clock;
mod control;
mod deliver;
mod join;
mod leave;
mod memory;
mod presence;
mod publish;
mod renew;
mod replay;
mod report;
mod send;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod visitors;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::agents::Agents;
use super::agents_online::AgentsOnline;
use super::channel::{Channel, Socket};
use super::cut::Cut;
use super::event_rate::EventRate;
use super::expiries::Expiries;
use super::input::{ClientInput, HubChange, HubInput};
use super::metrics::HubMetrics;
use super::room::Rooms;
use super::roster::Roster;
use super::rows::{RowsMemory, RowsRequest};
use super::settings::HubSettings;
use super::shared_frames::SharedFrames;
use super::socket_id::SocketId;
use super::token_use::TokenUse;
use super::typing::Typing;
use super::window::Window;
use crate::postgres::Lsn;
use crate::protocol::{Ref, unmatched_topic};
use crate::route::{DatabaseTag, Position, RoutedChannels};

/// How often expiries are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Client inputs taken in one go, so that a flood of them cannot hold up what comes from Postgres.
const CLIENT_BATCH: usize = 64;

/// Subscriptions, control state, and the position reached.
pub struct Hub {
    settings: HubSettings,
    metrics: HubMetrics,
    rooms: Rooms,
    sockets: HashMap<SocketId, Socket>,
    agents: Agents,
    typing: Typing,
    agents_online: AgentsOnline,
    roster: Roster,
    token_use: TokenUse,
    event_rate: EventRate,
    expiries: Expiries,
    /// The time of this turn, which tokens are measured by.
    wall_clock: SystemTime,
    /// What the routes in force say about channels.
    routed: Arc<RoutedChannels>,
    window: Window,
    shared_frames: SharedFrames,
    /// Sockets whose replays wait for memory, in the order in which they will have it.
    starved: VecDeque<SocketId>,
    /// Names the database the relay is attached to. None before the first time.
    tag: Option<DatabaseTag>,
    /// How many times the relay has attached to the database.
    attachment: u64,
    /// Everything that committed before it was applied.
    passed: Lsn,
    /// Channels that are live but for what their snapshots show.
    behind: Vec<(SocketId, Arc<str>, Arc<Cut>)>,
    rows_requests: mpsc::Sender<RowsRequest>,
    /// What the rows of joins take.
    rows_memory: RowsMemory,
    /// Tickets given out.
    tickets: u64,
    /// All that had committed when the relay attached has been applied: clients may connect.
    is_ready: bool,
    /// Copies for other tasks. The hub itself does not read them.
    applied: Arc<watch::Sender<Lsn>>,
    ready: watch::Sender<bool>,
    /// Changes that have yet to be applied, before anything else from Postgres.
    unapplied: Option<Unapplied>,
    /// What this turn has done: changes, and members that were looked at.
    work: usize,
}

#[derive(Debug)]
struct Unapplied {
    changes: std::vec::IntoIter<HubChange>,
    applied: Option<Lsn>,
}

impl Hub {
    pub fn new(
        settings: HubSettings,
        metrics: HubMetrics,
        rows_requests: mpsc::Sender<RowsRequest>,
        applied: Arc<watch::Sender<Lsn>>,
        ready: watch::Sender<bool>,
    ) -> Self {
        let typing = Typing::new(settings.typing_timeout);
        let roster = Roster::new(&settings.presence);
        let window = Window::new(settings.window);
        Self {
            metrics,
            rooms: Rooms::default(),
            sockets: HashMap::new(),
            agents: Agents::default(),
            typing,
            agents_online: AgentsOnline::new(settings.presence.grace),
            roster,
            token_use: TokenUse::default(),
            event_rate: EventRate::new(settings.events_per_second_max),
            expiries: Expiries::default(),
            wall_clock: SystemTime::UNIX_EPOCH,
            routed: Arc::default(),
            window,
            shared_frames: SharedFrames::default(),
            starved: VecDeque::new(),
            settings,
            tag: None,
            attachment: 0,
            passed: Lsn::INVALID,
            behind: Vec::new(),
            rows_requests,
            rows_memory: RowsMemory::default(),
            tickets: 0,
            is_ready: false,
            applied,
            ready,
            unapplied: None,
            work: 0,
        }
    }

    /// Applies inputs until stopped. Neither queue may starve the other, so the choice between them is random.
    pub async fn run(
        mut self,
        mut clients: mpsc::Receiver<HubInput>,
        mut wal: mpsc::Receiver<HubInput>,
        stop: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(CLIENT_BATCH);
        loop {
            let due = self.roster.tell_at().into_iter().chain(self.expiries.next()).min();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(input) = wal.recv(), if self.unapplied.is_none() => self.turn(input),
                () = std::future::ready(()), if self.unapplied.is_some() => {
                    self.end_tokens(SystemTime::now());
                    self.go_on();
                    tokio::task::yield_now().await;
                    // The choice is random, but not even: after each turn clients have theirs for certain.
                    for _ in 0..CLIENT_BATCH {
                        let Ok(input) = clients.try_recv() else { break };
                        self.turn(input);
                    }
                }
                count = clients.recv_many(&mut batch, CLIENT_BATCH), if !clients.is_closed() => {
                    debug_assert!(count > 0 || clients.is_closed());
                    batch.drain(..).for_each(|input| self.turn(input));
                }
                () = until(due) => {
                    self.end_tokens(SystemTime::now());
                    self.tell_differences(Instant::now());
                }
                _ = tick.tick() => self.tick(Instant::now(), SystemTime::now()),
            }
        }
    }

    /// One turn, before which tokens that have ended end their channels.
    fn turn(&mut self, input: HubInput) {
        self.end_tokens(SystemTime::now());
        self.begin(input);
    }

    /// Decides, and queues what follows from it.
    pub fn apply(&mut self, input: HubInput) {
        self.begin(input);
        while self.unapplied.is_some() {
            self.go_on();
        }
    }

    /// The same, but of changes only as many as one turn may take. The others follow before anything else from Postgres.
    fn begin(&mut self, input: HubInput) {
        match input {
            HubInput::Client(socket, input) => self.apply_client(socket, input),
            HubInput::Publish(publish) => self.publish(publish),
            HubInput::Attached {
                loss,
                is_elsewhere,
                agents,
                agent_names,
                snapshot,
                tag,
                timeline,
                confirmed_flush_lsn,
            } => {
                self.attach(tag, timeline, confirmed_flush_lsn, &snapshot, loss, is_elsewhere);
                self.load_agents(agents, agent_names, snapshot);
            }
            HubInput::Rerouted(routed) => self.routed = routed,
            HubInput::CaughtUp => self.catch_up(),
            HubInput::Detached => self.set_ready(false),
            HubInput::Changes { changes, applied } => {
                self.unapplied = Some(Unapplied { changes: changes.into_iter(), applied });
                self.go_on();
            }
            HubInput::Rows { socket, ticket, outcome } => self.apply_rows(socket, ticket, outcome),
        }
        self.report();
    }

    fn apply_client(&mut self, id: SocketId, input: ClientInput) {
        match input {
            ClientInput::Connect { vsn, outbox } => {
                self.sockets.insert(id, Socket { vsn, outbox, channels: Vec::new(), is_starved: false });
            }
            ClientInput::Disconnect => {
                self.disconnect(id);
                self.feed_starved();
            }
            ClientInput::Heartbeat { reference } => self.heartbeat(id, &reference),
            ClientInput::Refill => {
                self.refill(id);
                self.feed_starved();
            }
            ClientInput::Join(join) => self.join(id, *join),
            ClientInput::Leave { wire_topic, join_ref, reference } => {
                self.leave(id, &wire_topic, &join_ref, &reference)
            }
            ClientInput::AccessToken { wire_topic, reference, credential, grants } => {
                self.renew(id, &wire_topic, &reference, credential, grants);
            }
            ClientInput::Broadcast { wire_topic, reference, broadcast, within_rate } => {
                self.broadcast(id, &wire_topic, &reference, &broadcast, within_rate);
            }
            ClientInput::Presence { wire_topic, reference, call, within_rate } => {
                self.presence_call(id, &wire_topic, &reference, &call, within_rate, Instant::now());
            }
            ClientInput::Other { wire_topic, reference } => {
                self.channel_or_reply(id, &wire_topic, &reference);
            }
        }
    }

    fn channel_mut(&mut self, id: SocketId, wire_topic: &str) -> Option<&mut Channel> {
        self.sockets.get_mut(&id)?.find_mut(wire_topic)
    }

    fn channel(&self, id: SocketId, wire_topic: &str) -> Option<&Channel> {
        self.sockets.get(&id)?.find(wire_topic)
    }

    /// The channel that a push names; without one the push is answered with an error.
    fn channel_or_reply(&mut self, id: SocketId, wire_topic: &str, reference: &Ref) -> Option<&Channel> {
        if self.channel(id, wire_topic).is_none() {
            let vsn = self.sockets.get(&id)?.vsn;
            self.push(id, unmatched_topic(vsn, wire_topic, reference));
        }
        self.channel(id, wire_topic)
    }

    fn channels_where(&self, wanted: impl Fn(&&Channel) -> bool) -> Vec<(SocketId, Arc<str>)> {
        let of_socket = |(id, socket): (&SocketId, &Socket)| {
            let channels = socket.channels.iter().filter(&wanted);
            channels.map(|channel| (*id, Arc::clone(&channel.wire_topic))).collect::<Vec<_>>()
        };
        self.sockets.iter().flat_map(of_socket).collect()
    }

    /// A position as clients see it. Empty before there is a database, and then there are no events either.
    fn id_of(&self, position: Position) -> String {
        self.tag.map(|tag| position.id(tag).to_string()).unwrap_or_default()
    }
}

/// Resolves at the moment; without one, never.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

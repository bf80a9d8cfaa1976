//! The hub: one owner of everything that decides who gets what, in one order.
//!
//! Inputs come over two bounded queues, from Postgres and from clients. Applying one never waits and never asks the
//! database: the answer is a function of the hub's state, so a join and a change can not race. Frames go into
//! outboxes, which never wait either.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::channel::{Channel, Socket};
use super::dashboards::Dashboards;
use super::event_rate::EventRate;
use super::expiry::Expiries;
use super::outbox::Outbox;
use super::presence::PresenceLimits;
use super::publish::Publish;
use super::room::{Delivery, RoomKey, Rooms};
use super::roster::Roster;
use super::shared_frames::SharedFrames;
use super::snapshot::{Cut, SnapshotFailure, SnapshotRequest, SnapshotRows};
use super::status::AgentNames;
use super::token_use::TokenUse;
use super::typing::Typing;
use super::window::{Kept, Window, WindowLimits};
use crate::auth::{Credential, Grants, TokenError};
use crate::metrics::Metrics;
use crate::postgres::{Lsn, Snapshot, Timestamp, Xid};
use crate::protocol::{
    Broadcast, BroadcastPayload, Encoding, JoinPayload, PresenceCall, Reason, Ref, UserBroadcast, Vsn,
};
use crate::route::{ControlChange, DatabaseTag, Event, Position, RealtimeMessage, Routed, Topic};

/// How often expiries are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Client inputs taken in one go, so that a flood of them cannot hold up what comes from Postgres.
const CLIENT_BATCH: usize = 64;

/// Changes that are applied, and members of rooms that are looked at for them, before others have their turn: some milliseconds' worth. A
/// single change is never divided.
const TURN_WORK_MAX: usize = 8_192;

/// Numbers a socket, for the life of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

impl SocketId {
    /// No socket: what comes over HTTP.
    pub(super) const NONE: Self = Self(0);
}

/// What the hub may be told.
#[derive(Debug)]
pub enum HubInput {
    Client(SocketId, ClientInput),
    Publish(Publish),
    /// Attached to the slot: the agents as a snapshot showed them; from here on what it does not show moves them.
    /// Commits from `confirmed_flush_lsn` on will come. `loss`: why committed events cannot be had any more, if so.
    /// Told together, because a join in between would be promised what is lost. `is_elsewhere`: another server, or
    /// another history of it, which may give out LSNs and transaction ids once more.
    Attached {
        loss: Option<&'static str>,
        is_elsewhere: bool,
        agents: Vec<(Uuid, Uuid, bool)>,
        agent_names: Vec<(Uuid, Uuid, String)>,
        snapshot: Snapshot,
        tag: DatabaseTag,
        timeline: u32,
        confirmed_flush_lsn: Lsn,
    },
    /// All that had committed when we attached has been applied: clients may come.
    CaughtUp,
    /// The connection to Postgres is gone.
    Detached,
    /// Changes in commit order. `applied`: the end up to which all is told with them.
    Changes {
        changes: Vec<HubChange>,
        applied: Option<Lsn>,
    },
    /// The rows of a join, or why there are none.
    Snapshot {
        socket: SocketId,
        ticket: u64,
        outcome: Result<SnapshotRows, SnapshotFailure>,
    },
}

/// A change, and what it leads to.
#[derive(Debug)]
pub struct HubChange {
    pub position: Position,
    pub xid: Xid,
    pub committed_at: Timestamp,
    /// The `meta` of its events, as JSON text.
    pub meta: Arc<[u8]>,
    pub routed: Routed,
}

/// What a session says for its socket. Topics are as on the wire.
#[derive(Debug)]
pub enum ClientInput {
    Connect {
        vsn: Vsn,
        outbox: Arc<Outbox>,
    },
    Disconnect,
    Join(Box<Join>),
    Leave {
        wire_topic: Arc<str>,
        join_ref: Ref,
        reference: Ref,
    },
    Heartbeat {
        reference: Ref,
    },
    /// The socket has written what waited, and the hub had asked to be told.
    Refill,
    /// A token that was verified, or why it could not be.
    AccessToken {
        wire_topic: Arc<str>,
        reference: Ref,
        credential: Result<Credential, TokenError>,
        /// As in [`Join`].
        grants: Option<Result<Grants, Reason>>,
    },
    Broadcast {
        wire_topic: Arc<str>,
        reference: Ref,
        broadcast: UserBroadcast,
        within_rate: bool,
    },
    Presence {
        wire_topic: Arc<str>,
        reference: Ref,
        call: PresenceCall,
        within_rate: bool,
    },
    /// An event that means nothing to us.
    Other {
        wire_topic: Arc<str>,
        reference: Ref,
    },
}

#[derive(Debug)]
pub struct Join {
    pub wire_topic: Arc<str>,
    pub join_ref: Ref,
    pub reference: Ref,
    /// What it asks for, or why that can not be had.
    pub payload: Result<JoinPayload, Reason>,
    /// The verified token, the socket's own credential where the join brought none, or why neither will do.
    pub credential: Result<Credential, TokenError>,
    /// What the database's policies say, where they decide: on private channels outside `org:`.
    pub grants: Option<Result<Grants, Reason>>,
    /// Where the socket comes from, as far as it is known.
    pub address: Option<IpAddr>,
    pub within_rate: bool,
}

/// The hub's part of the settings.
#[derive(Clone, Debug)]
pub struct HubSettings {
    pub channels_per_socket_max: usize,
    /// 0: no limit.
    pub sockets_per_token_max: usize,
    /// The reference's limit on what clients send and its copies; 0: none.
    pub events_per_second_max: u32,
    pub payload_bytes_max: usize,
    pub org_payload_bytes_max: usize,
    pub typing_timeout: Duration,
    /// Whether public channels outside `org:` exist.
    pub public_channels: bool,
    pub presence: PresenceLimits,
    pub window: WindowLimits,
    /// Memory that rows of snapshots may take while sockets read them.
    pub snapshot_bytes_max: usize,
}

/// Subscriptions, control state, and the position reached.
pub struct Hub {
    pub(super) settings: HubSettings,
    pub(super) metrics: Metrics,
    pub(super) rooms: Rooms,
    pub(super) sockets: HashMap<SocketId, Socket>,
    pub(super) agents: HashMap<(Uuid, Uuid), bool>,
    pub(super) typing: Typing,
    pub(super) agent_names: AgentNames,
    pub(super) dashboards: Dashboards,
    pub(super) roster: Roster,
    pub(super) token_use: TokenUse,
    pub(super) event_rate: EventRate,
    pub(super) expiries: Expiries,
    /// The time of this turn, which tokens are measured by.
    pub(super) wall_clock: SystemTime,
    pub(super) window: Window,
    pub(super) shared_frames: SharedFrames,
    /// Sockets whose replays wait for memory, in the order in which they will have it.
    pub(super) starved: VecDeque<SocketId>,
    /// Of the database we are attached to. None before the first time.
    pub(super) tag: Option<DatabaseTag>,
    /// Counts the times we attached.
    pub(super) attachment: u64,
    /// What showed the agents; None before the first time.
    agents_shown: Option<Snapshot>,
    /// Everything that committed before it was applied.
    pub(super) passed: Lsn,
    /// Channels that are live but for what their snapshots show.
    pub(super) behind: Vec<(SocketId, Arc<str>, Arc<Cut>)>,
    pub(super) snapshots: mpsc::Sender<SnapshotRequest>,
    /// Tickets given out.
    pub(super) tickets: u64,
    applied: Arc<watch::Sender<Lsn>>,
    pub(super) ready: watch::Sender<bool>,
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
        metrics: Metrics,
        snapshots: mpsc::Sender<SnapshotRequest>,
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
            agents: HashMap::new(),
            typing,
            agent_names: AgentNames::new(),
            dashboards: Dashboards::new(settings.presence.grace),
            roster,
            token_use: TokenUse::default(),
            event_rate: EventRate::new(settings.events_per_second_max),
            expiries: Expiries::default(),
            wall_clock: SystemTime::UNIX_EPOCH,
            window,
            shared_frames: SharedFrames::default(),
            starved: VecDeque::new(),
            settings,
            tag: None,
            attachment: 0,
            agents_shown: None,
            passed: Lsn::INVALID,
            behind: Vec::new(),
            snapshots,
            tickets: 0,
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
                Some(input) = wal.recv(), if self.unapplied.is_none() => {
                    self.end_tokens(SystemTime::now());
                    self.begin(input);
                }
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

    /// One turn, for those whose tokens last.
    fn turn(&mut self, input: HubInput) {
        self.end_tokens(SystemTime::now());
        self.apply(input);
    }

    /// Decides, and queues what follows from it.
    pub fn apply(&mut self, input: HubInput) {
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
                let is_first = self.tag.replace(tag).is_none();
                if is_first || loss.is_some() {
                    self.window.start_at(Position::before(timeline, confirmed_flush_lsn));
                    self.forget_snapshots(confirmed_flush_lsn);
                }
                self.window.learn_id(snapshot.xmax(), is_elsewhere && loss.is_some());
                if let Some(cause) = loss {
                    self.fail_pending(SnapshotFailure::Loss);
                    self.announce_loss(cause, |_| true);
                } else if is_elsewhere {
                    self.leave_history();
                }
                self.attachment += 1;
                self.shared_frames.clear();
                self.agents_shown = Some(snapshot);
                self.agents = agents
                    .into_iter()
                    .map(|(organization, user, active)| ((organization, user), active))
                    .collect();
                self.agent_names = agent_names
                    .into_iter()
                    .map(|(organization, user, name)| ((organization, user), name.into()))
                    .collect();
                self.close_unauthorized_agents(None);
            }
            HubInput::CaughtUp => {
                // All that showed the agents has been read, and the lower halves of its ids will come round again.
                self.agents_shown = None;
                self.metrics.ready.set(1);
                self.ready.send_replace(true);
                self.tell_replication_ready();
            }
            HubInput::Detached => {
                self.metrics.ready.set(0);
                self.ready.send_replace(false);
            }
            HubInput::Changes { changes, applied } => {
                self.unapplied = Some(Unapplied { changes: changes.into_iter(), applied });
                while self.unapplied.is_some() {
                    self.go_on();
                }
            }
            HubInput::Snapshot { socket, ticket, outcome } => self.apply_snapshot(socket, ticket, outcome),
        }
        self.metrics.topics.set(i64::try_from(self.rooms.len()).unwrap_or(i64::MAX));
    }

    /// Begins with what came from Postgres. Changes may take further turns, which follow before anything else from there.
    fn begin(&mut self, input: HubInput) {
        match input {
            HubInput::Changes { changes, applied } => {
                self.unapplied = Some(Unapplied { changes: changes.into_iter(), applied });
                self.go_on();
            }
            other => self.apply(other),
        }
    }

    /// Applies changes that wait, as many as one turn may take.
    fn go_on(&mut self) {
        let Some(mut unapplied) = self.unapplied.take() else { return };
        self.work = 0;
        while self.work < TURN_WORK_MAX {
            let Some(change) = unapplied.changes.next() else {
                self.measure_window();
                if let Some(end) = unapplied.applied {
                    self.pass(end);
                    self.applied.send_replace(end);
                    self.metrics.applied_lsn.set(end.0);
                }
                return;
            };
            self.apply_change(&change);
            self.work += 1;
        }
        self.unapplied = Some(unapplied);
    }

    fn apply_change(&mut self, change: &HubChange) {
        let HubChange { position, xid, committed_at, .. } = *change;
        self.window.witness(xid);
        // After a reconnect the server sends again what was not confirmed.
        let is_new = position > self.window.head();
        // Before the events, and also where they are skipped: the agents were loaded anew, perhaps without this.
        for control in &change.routed.control {
            self.apply_to_agents(control, xid, is_new);
        }
        if !is_new {
            self.metrics.changes_skipped.inc();
            return;
        }
        // Channels that are live have everything up to here.
        let sent = self.window.head();
        self.window.advance(position, committed_at);
        self.metrics.events_collided.inc_by(change.routed.collisions.into());
        self.metrics.events_unaddressed.inc_by(change.routed.unaddressed.into());
        self.metrics.events.inc_by(change.routed.events.len() as u64);
        for routed in &change.routed.events {
            let Event { topic, event, payload: bytes, message } = routed;
            let private = message.is_some_and(|message| message.private);
            let room = RoomKey { topic: topic.clone(), private };
            let encoding = match message {
                Some(RealtimeMessage { binary: true, .. }) => Encoding::Binary,
                _ => Encoding::Json,
            };
            let payload = BroadcastPayload::new(encoding, bytes);
            let broadcast = Broadcast { event, payload, meta: Some(&change.meta) };
            let is_kept = room.has_history();
            let mut delivery = self.rooms.deliver_event(&room, &broadcast, xid, is_kept);
            let lagging = std::mem::take(&mut delivery.lagging);
            self.work += delivery.looked_at;
            self.settle(delivery);
            lagging.iter().for_each(|(socket, wire_topic)| self.lag(*socket, wire_topic, sent));
            if !private && topic.organization().is_none() && !self.settings.public_channels {
                self.metrics.events_unheard.inc();
            }
            if is_kept {
                let kept = Kept::new(position, xid, routed, &change.meta, change.routed.events.len());
                self.window.keep(topic, kept);
            }
        }
        // After the events: `conversation:deleted`, two ids that the channel's own name tells, is its last word.
        for control in &change.routed.control {
            self.apply_to_conversations(control, xid, sent);
        }
    }

    /// Moves the agents by a change that the snapshot they were loaded under does not show. One that it does show can
    /// have ended only the channels that were admitted before.
    fn apply_to_agents(&mut self, control: &ControlChange, xid: Xid, is_new: bool) {
        let is_shown = self.agents_shown.as_ref().is_some_and(|snapshot| snapshot.shows(xid));
        let agent = match *control {
            ControlChange::Agent { organization, user, active } => {
                let agent = (organization, user);
                match active {
                    _ if is_shown => None,
                    Some(active) => self.agents.insert(agent, active),
                    None => {
                        self.agent_names.remove(&agent);
                        self.agents.remove(&agent)
                    }
                };
                if active == Some(true) {
                    return;
                }
                Some(agent)
            }
            ControlChange::AgentNamed { organization, user, ref display_name } => {
                if !is_shown {
                    self.agent_names.insert((organization, user), Arc::clone(display_name));
                }
                return;
            }
            ControlChange::AllAgentsGone => {
                if !is_shown {
                    self.agents.clear();
                    self.agent_names.clear();
                }
                None
            }
            ControlChange::ConversationGone { .. }
            | ControlChange::AllConversationsGone
            | ControlChange::Emptied { .. }
            | ControlChange::RoutedAnewUntilHere => return,
        };
        match (is_shown, is_new) {
            (false, _) => self.close_unauthorized_agents(agent),
            (true, true) => self.close_agents_of_before(agent),
            (true, false) => {}
        }
    }

    /// `sent`: what channels that are live had been sent before this change.
    fn apply_to_conversations(&mut self, control: &ControlChange, xid: Xid, sent: Position) {
        match *control {
            ControlChange::Agent { .. } | ControlChange::AgentNamed { .. } | ControlChange::AllAgentsGone => {
            }
            ControlChange::ConversationGone { organization, conversation } => {
                for topic in [
                    Topic::channel_conversation(organization, conversation),
                    Topic::channel_widget(organization, conversation),
                ] {
                    self.close_room(&RoomKey { topic, private: false }, &Reason::ConversationGone);
                }
            }
            ControlChange::Emptied { ref channels } => {
                self.window.empty(channels, xid);
                self.announce_emptied(channels, xid, sent);
            }
            // Clients that go on from before would miss events that were, or get some that were not. So have those
            // that were here.
            ControlChange::RoutedAnewUntilHere => {
                self.window.start_at(self.window.head());
                self.fail_pending(SnapshotFailure::Loss);
                self.announce_loss("routes have changed in what was not read", |_| true);
            }
            ControlChange::AllConversationsGone => {
                let ends = |room: &&RoomKey| room.topic.conversation().is_some();
                let rooms: Vec<RoomKey> = self.rooms.keys().filter(ends).cloned().collect();
                for room in rooms {
                    self.close_room(&room, &Reason::ConversationGone);
                }
            }
        }
    }

    /// Nothing that was streamed is missing in the history that begins, but rows that were read ahead of the stream may
    /// be, and others may get the ids of their transactions.
    fn leave_history(&mut self) {
        self.fail_pending(SnapshotFailure::Loss);
        self.announce_loss("the new primary may not have the rows of your snapshot", Channel::has_cut);
        self.forget_snapshots(self.passed);
    }

    pub(super) fn measure_window(&self) {
        self.metrics.window_bytes.set(i64::try_from(self.window.bytes()).unwrap_or(i64::MAX));
        self.metrics.window_events.set(i64::try_from(self.window.event_count()).unwrap_or(i64::MAX));
    }

    /// Counts a delivery, forgets the sockets that could not take it, and keeps it for those that are not that far.
    pub(super) fn settle(&mut self, delivery: Delivery) {
        self.settle_held(delivery, false);
    }

    /// The same, where what has to wait may be lost.
    pub(super) fn settle_held(&mut self, delivery: Delivery, is_expendable: bool) {
        self.metrics.deliveries.inc_by(delivery.delivered);
        for socket in delivery.closed {
            self.disconnect(socket);
        }
        for (socket, wire_topic, frame) in delivery.held {
            self.hold(socket, &wire_topic, frame, is_expendable);
        }
        for (socket, wire_topic) in delivery.untold {
            self.tell_state_later(socket, &wire_topic);
        }
    }
}

/// Resolves at the moment, or never.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

//! Connections that are accepted and are no WebSocket yet, or never will be.
//!
//! They cost a file descriptor each, and anybody can open them. So they are bounded, in all and for each address, and
//! each has a deadline while the relay waits for its client. If a new one finds no room, the one that has been
//! waited for longest makes room: a client that sends its request at once is served, however many others are silent.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::metrics::HttpMetrics;
use crate::admission::Origin;
use crate::config::units;

/// Bounds on connections before the upgrade.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Connections")]
pub struct LobbyLimits {
    /// Connections that may be open at once without being a WebSocket (yet); above that, the relay closes the one that
    /// has been silent for longest. Lowered to what the open-file limit leaves.
    #[arg(long = "max-connections", env = "CAMPFIRE_MAX_CONNECTIONS", default_value_t = 1_024, value_parser = units::some::<usize>)]
    pub connections_max: usize,

    /// The same for one address; no limit for this machine and behind trusted proxies. 0: no limit.
    #[arg(id = "CONNECTIONS_PER_IP_MAX", long = "max-connections-per-ip", env = "CAMPFIRE_MAX_CONNECTIONS_PER_IP", default_value_t = 256, value_parser = units::count::<usize>)]
    pub connections_per_origin_max: usize,

    /// Seconds within which a connection must send the header of its first request.
    #[arg(id = "HEADER_SECONDS", long = "header-seconds", env = "CAMPFIRE_HEADER_SECONDS", default_value = "30", value_parser = units::some_seconds)]
    pub header: Duration,

    /// Seconds within which the body of a request must arrive.
    #[arg(id = "BODY_SECONDS", long = "body-seconds", env = "CAMPFIRE_BODY_SECONDS", default_value = "30", value_parser = units::some_seconds)]
    pub body: Duration,

    /// Seconds that a connection may wait between an answer and the next request.
    #[arg(id = "KEEP_ALIVE_SECONDS", long = "keep-alive-seconds", env = "CAMPFIRE_KEEP_ALIVE_SECONDS", default_value = "30", value_parser = units::some_seconds)]
    pub keep_alive: Duration,

    /// Largest body of a broadcast over HTTP, in bytes; the default is that of Supabase Realtime.
    #[arg(long = "max-body-bytes", env = "CAMPFIRE_MAX_BODY_BYTES", default_value_t = 8_000_000, value_parser = units::bytes::<usize>, help_heading = "Limits")]
    pub body_bytes_max: usize,

    /// Bytes that incomplete bodies may take together; above that, the relay gives up the one it has waited for
    /// longest.
    #[arg(long = "max-bodies-bytes", env = "CAMPFIRE_MAX_BODIES_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>, help_heading = "Limits")]
    pub bodies_bytes_max: usize,
}

/// What the relay waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    /// The first request's header.
    Header,
    /// The rest of a request.
    Body,
    /// Another request, or that the last answer is read.
    Next,
}

/// All such connections.
pub(crate) struct Lobby {
    limits: LobbyLimits,
    metrics: HttpMetrics,
    seats: Mutex<Seats>,
    freed: Notify,
}

#[derive(Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Taken>,
    by_origin: HashMap<Origin, usize>,
    /// Those that wait for their client, the oldest first.
    waiting: BTreeSet<(Instant, u64)>,
    /// Bytes of unfinished bodies.
    bodies_bytes: usize,
}

struct Taken {
    origin: Origin,
    awaited: Option<(Awaited, Instant)>,
    evicted: Arc<Notify>,
}

/// One connection's place; given back when dropped.
pub(super) struct Seat {
    lobby: Arc<Lobby>,
    number: u64,
    evicted: Arc<Notify>,
}

/// While it lives, its connection waits for something else than before.
pub(super) struct Phase {
    seat: Arc<Seat>,
    then: Option<Awaited>,
    /// Bytes of a body that have come.
    bytes: usize,
}

impl Lobby {
    pub(crate) fn new(limits: LobbyLimits, metrics: HttpMetrics) -> Arc<Self> {
        // One is always allowed, however large.
        let limits =
            LobbyLimits { bodies_bytes_max: limits.bodies_bytes_max.max(limits.body_bytes_max), ..limits };
        Arc::new(Self { limits, metrics, seats: Mutex::default(), freed: Notify::new() })
    }

    pub(super) fn limits(&self) -> &LobbyLimits {
        &self.limits
    }

    /// Connections that are here now.
    pub(crate) fn len(&self) -> usize {
        self.lock().taken.len()
    }

    /// A place for a new connection. None if all are in the middle of an answer.
    pub(super) async fn enter(self: &Arc<Self>, origin: Origin) -> Option<Arc<Seat>> {
        loop {
            let freed = self.freed.notified();
            {
                let mut seats = self.lock();
                let limit = self.limits.connections_per_origin_max;
                let of_origin = seats.by_origin.get(&origin).copied().unwrap_or_default();
                let is_bounded = origin != Origin::Local && limit > 0;
                let evicted = if is_bounded && of_origin >= limit {
                    seats.evict_oldest(Some(origin))
                } else if seats.taken.len() >= self.limits.connections_max {
                    seats.evict_oldest(None)
                } else {
                    return Some(self.seat(&mut seats, origin));
                };
                if !evicted {
                    return None;
                }
            }
            freed.await;
        }
    }

    /// Closes the connection that has been waited for longest, to have its file.
    pub(super) fn make_room(&self) {
        self.lock().evict_oldest(None);
    }

    fn seat(self: &Arc<Self>, seats: &mut Seats, origin: Origin) -> Arc<Seat> {
        seats.last += 1;
        let (number, now, evicted) = (seats.last, Instant::now(), Arc::new(Notify::new()));
        let awaited = Some((Awaited::Header, now));
        seats.taken.insert(number, Taken { origin, awaited, evicted: Arc::clone(&evicted) });
        seats.waiting.insert((now, number));
        *seats.by_origin.entry(origin).or_default() += 1;
        self.metrics.connections.inc();
        Arc::new(Seat { lobby: Arc::clone(self), number, evicted })
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// Asks the one that has been waited for longest to make room; false if none is waited for.
    fn evict_oldest(&mut self, origin: Option<Origin>) -> bool {
        self.evict(|taken| origin.is_none_or(|origin| taken.origin == origin))
    }

    fn evict(&mut self, fits: impl Fn(&Taken) -> bool) -> bool {
        let fits = |(_, number): &&(Instant, u64)| self.taken.get(number).is_some_and(&fits);
        let Some(oldest) = self.waiting.iter().find(fits).copied() else { return false };
        self.waiting.remove(&oldest);
        if let Some(taken) = self.taken.get(&oldest.1) {
            taken.evicted.notify_one();
        }
        true
    }

    fn set(&mut self, number: u64, awaited: Option<Awaited>) {
        let Some(taken) = self.taken.get_mut(&number) else { return };
        if let Some((_, since)) = taken.awaited {
            self.waiting.remove(&(since, number));
        }
        let now = Instant::now();
        taken.awaited = awaited.map(|awaited| (awaited, now));
        if awaited.is_some() {
            self.waiting.insert((now, number));
        }
    }
}

impl Seat {
    /// A request is being answered.
    pub(super) fn answering(self: &Arc<Self>) -> Phase {
        self.phase(None, Some(Awaited::Next))
    }

    /// The rest of a request is being read.
    pub(super) fn reading(self: &Arc<Self>) -> Phase {
        self.phase(Some(Awaited::Body), None)
    }

    fn phase(self: &Arc<Self>, now: Option<Awaited>, then: Option<Awaited>) -> Phase {
        self.lobby.lock().set(self.number, now);
        Phase { seat: Arc::clone(self), then, bytes: 0 }
    }

    /// What the client is waited for, and until when. None while a request is being answered.
    pub(super) fn awaited(&self) -> Option<(Awaited, Instant)> {
        let (awaited, since) = self.lobby.lock().taken.get(&self.number)?.awaited?;
        let limits = &self.lobby.limits;
        let patience = match awaited {
            Awaited::Header => limits.header,
            // The request's own deadline comes first, and is answered; this one is for an answer nobody reads.
            Awaited::Body => limits.body + limits.header,
            Awaited::Next => limits.keep_alive,
        };
        Some((awaited, since + patience))
    }

    /// Resolves when somebody else needs the place.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Whether this connection is to go, then. If its client has asked something meanwhile it stays, and another is
    /// looked for.
    pub(super) fn gives_way(&self) -> bool {
        let is_waited_for = self.awaited().is_some();
        if !is_waited_for {
            self.lobby.freed.notify_waiters();
        }
        is_waited_for
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Arc<Self> {
        let limits = tests::limits(1, 0);
        let lobby = Lobby::new(limits, HttpMetrics::default());
        lobby.seat(&mut lobby.lock(), Origin::Local)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.lobby.lock();
        if let Some(taken) = seats.taken.remove(&self.number) {
            if let Some((_, since)) = taken.awaited {
                seats.waiting.remove(&(since, self.number));
            }
            if let Some(count) = seats.by_origin.get_mut(&taken.origin) {
                *count -= 1;
                if *count == 0 {
                    seats.by_origin.remove(&taken.origin);
                }
            }
        }
        self.lobby.metrics.connections.dec();
        self.lobby.freed.notify_waiters();
    }
}

impl Phase {
    /// A part of the body has come. If that is too much for all of them together, the one that has been waited for
    /// longest is given up: memory is not for those who send almost all of a body, and then nothing.
    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
        let mut seats = self.seat.lobby.lock();
        seats.bodies_bytes += bytes;
        if seats.bodies_bytes > self.seat.lobby.limits.bodies_bytes_max {
            seats.evict(|taken| matches!(taken.awaited, Some((Awaited::Body, _))));
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        let mut seats = self.seat.lobby.lock();
        seats.bodies_bytes -= self.bytes;
        seats.set(self.seat.number, self.then);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    pub(super) fn limits(connections_max: usize, connections_per_origin_max: usize) -> LobbyLimits {
        let second = Duration::from_secs(1);
        LobbyLimits {
            connections_max,
            connections_per_origin_max,
            bodies_bytes_max: 1_000,
            body_bytes_max: 1_000,
            header: second,
            body: second * 2,
            keep_alive: second * 3,
        }
    }

    fn lobby(connections_max: usize, connections_per_origin_max: usize) -> Arc<Lobby> {
        Lobby::new(limits(connections_max, connections_per_origin_max), HttpMetrics::default())
    }

    fn enter(lobby: &Arc<Lobby>, host: u8) -> Option<Arc<Seat>> {
        lobby.enter(Origin::Network([10, 0, 0, host].into())).now_or_never().flatten()
    }

    fn is_evicted(seat: &Seat) -> bool {
        seat.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_one_waited_for_longest_makes_room() {
        let lobby = lobby(3, 0);
        let seats: Vec<_> = (1..=3).map(|host| enter(&lobby, host).unwrap()).collect();
        let _busy = seats[0].answering();
        let mut waiting = Box::pin(lobby.enter(Origin::Local));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(seats.iter().map(|seat| is_evicted(seat)).collect::<Vec<_>>(), [false, true, false]);
        // Nobody comes in before the other has gone.
        assert_eq!(lobby.len(), 3);
        let mut seats = seats;
        drop(seats.remove(1));
        assert!(waiting.now_or_never().flatten().is_some());
    }

    #[test]
    fn an_address_makes_room_for_itself() {
        let lobby = lobby(9, 2);
        let other = enter(&lobby, 1).unwrap();
        let mine: Vec<_> = (0..2).map(|_| enter(&lobby, 2).unwrap()).collect();
        assert!(enter(&lobby, 2).is_none());
        assert!(!is_evicted(&other) && is_evicted(&mine[0]) && !is_evicted(&mine[1]));
        // This machine has no such bound.
        let local: Vec<_> =
            (0..5).filter_map(|_| lobby.enter(Origin::Local).now_or_never().flatten()).collect();
        assert_eq!(local.len(), 5);
    }

    #[test]
    fn none_is_cut_off_in_the_middle_of_its_answer() {
        let lobby = lobby(2, 0);
        let seats: Vec<_> = (1..=2).map(|host| enter(&lobby, host).unwrap()).collect();
        let answering: Vec<_> = seats.iter().map(Seat::answering).collect();
        assert!(lobby.enter(Origin::Local).now_or_never().is_some_and(|seat| seat.is_none()));
        let reading = seats[1].reading();
        assert!(lobby.enter(Origin::Local).now_or_never().is_none() && is_evicted(&seats[1]));
        drop((reading, answering));
        assert_eq!(seats[0].awaited().map(|(awaited, _)| awaited), Some(Awaited::Next));
    }

    #[test]
    fn unfinished_bodies_are_bounded_together() {
        let lobby = lobby(9, 0);
        let seats: Vec<_> = (1..=3).map(|host| enter(&lobby, host).unwrap()).collect();
        let _silent = enter(&lobby, 9).unwrap();
        let mut bodies: Vec<_> = seats.iter().map(Seat::reading).collect();
        bodies[0].received(600);
        bodies[1].received(400);
        assert!(!is_evicted(&seats[0]));
        bodies[2].received(1);
        assert!(is_evicted(&seats[0]) && !is_evicted(&seats[1]) && !is_evicted(&seats[2]));
        drop(bodies.remove(0));
        bodies[1].received(599);
        assert!(!is_evicted(&seats[1]));
        drop(bodies);
        assert_eq!(lobby.lock().bodies_bytes, 0);
    }

    #[test]
    fn one_that_has_asked_meanwhile_stays_and_another_goes() {
        let lobby = lobby(2, 0);
        let seats: Vec<_> = (1..=2).map(|host| enter(&lobby, host).unwrap()).collect();
        let mut waiting = Box::pin(lobby.enter(Origin::Local));
        assert!(waiting.as_mut().now_or_never().is_none() && is_evicted(&seats[0]));
        let _answering = seats[0].answering();
        assert!(!seats[0].gives_way());
        assert!(waiting.as_mut().now_or_never().is_none() && is_evicted(&seats[1]) && seats[1].gives_way());
    }

    #[test]
    fn each_wait_has_its_deadline() {
        let lobby = lobby(1, 0);
        let seat = enter(&lobby, 1).unwrap();
        let before = Instant::now();
        let (awaited, until) = seat.awaited().unwrap();
        assert!(awaited == Awaited::Header && until <= before + Duration::from_secs(1));
        let answering = seat.answering();
        assert_eq!(seat.awaited(), None);
        let reading = seat.reading();
        assert_eq!(seat.awaited().map(|(awaited, _)| awaited), Some(Awaited::Body));
        drop(reading);
        assert_eq!(seat.awaited(), None);
        drop(answering);
        let (awaited, until) = seat.awaited().unwrap();
        assert!(awaited == Awaited::Next && until >= before + Duration::from_secs(3));
        drop(seat);
        let seats = lobby.lock();
        assert!(seats.taken.is_empty() && seats.waiting.is_empty() && seats.by_origin.is_empty());
    }
}

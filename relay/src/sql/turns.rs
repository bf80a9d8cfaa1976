//! Turns at what only a few may do at once, such as using a session. They go round by account, and within an account by
//! member: however much one account has waiting, another waits for one turn of each account before it.
//!
//! If all places are taken, a newcomer gets one of the account that has most of them, unless that is its own.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use tokio::sync::oneshot;

use crate::auth::{Account, Payer};

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct TurnLimits {
    /// Turns at once. One account has all but one of them at most, so that another need not wait for what takes long.
    pub at_once: usize,
    /// Those that wait for a turn or have it.
    pub crowd: usize,
}

/// All that wait for a turn or have one. Of those that name the same `W` one at a time has it.
pub struct Turns<W: Clone + Eq + Hash> {
    limits: TurnLimits,
    state: Mutex<State<W>>,
}

struct State<W: Clone + Eq + Hash> {
    /// The next one comes first. Only accounts that wait are here.
    accounts: IndexMap<Account, Members<W>>,
    waiting: usize,
    taken: usize,
    taken_by: HashMap<Account, usize>,
    busy: HashSet<W>,
    last_number: u64,
}

type Members<W> = IndexMap<Account, VecDeque<Waiting<W>>>;

struct Waiting<W: Clone + Eq + Hash> {
    number: u64,
    what: W,
    call: oneshot::Sender<Turn<W>>,
}

/// A place in the queue; given up when dropped.
pub struct Place<W: Clone + Eq + Hash> {
    turns: Arc<Turns<W>>,
    payer: Payer,
    number: u64,
    call: oneshot::Receiver<Turn<W>>,
}

/// A turn; over when dropped.
pub struct Turn<W: Clone + Eq + Hash> {
    turns: Arc<Turns<W>>,
    account: Account,
    what: W,
}

/// There is no room, or no longer: an account that has less waiting got the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<W: Clone + Eq + Hash> Turns<W> {
    pub fn new(limits: TurnLimits) -> Arc<Self> {
        let TurnLimits { at_once, crowd } = limits;
        Arc::new(Self { limits: TurnLimits { at_once: at_once.max(1), crowd }, state: Mutex::default() })
    }

    /// Lines up.
    pub fn line_up(self: &Arc<Self>, payer: Payer, what: W) -> Result<Place<W>, Full> {
        let (call, called) = oneshot::channel();
        let number = {
            let mut state = self.lock();
            if state.waiting + state.taken >= self.limits.crowd && !state.make_room(payer) {
                return Err(Full);
            }
            state.last_number += 1;
            state.waiting += 1;
            let number = state.last_number;
            let members = state.accounts.entry(payer.account).or_default();
            members.entry(payer.member).or_default().push_back(Waiting { number, what, call });
            number
        };
        self.call();
        Ok(Place { turns: Arc::clone(self), payer, number, call: called })
    }

    /// Those that wait for a turn or have it.
    pub fn crowd(&self) -> usize {
        let state = self.lock();
        state.waiting + state.taken
    }

    /// Gives out the turns that are free.
    fn call(self: &Arc<Self>) {
        loop {
            let next = self.lock().next(self.limits.at_once);
            let Some((account, Waiting { what, call, .. })) = next else { return };
            // One that has gone meanwhile drops its turn.
            call.send(Turn { turns: Arc::clone(self), account, what }).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Clone + Eq + Hash> State<W> {
    /// Takes a turn for the next one, if there is one. Account and member go to the end of their queues.
    fn next(&mut self, at_once: usize) -> Option<(Account, Waiting<W>)> {
        if self.taken >= at_once {
            return None;
        }
        let share = (at_once - 1).max(1);
        let has_share = |account| self.taken_by.get(account).is_some_and(|taken| *taken >= share);
        let first = |queue: &VecDeque<Waiting<W>>| {
            queue.iter().position(|waiting| !self.busy.contains(&waiting.what))
        };
        let mut accounts = self.accounts.iter().filter(|(account, _)| !has_share(account));
        let (account, member, index) = accounts.find_map(|(account, members)| {
            members.iter().find_map(|(member, queue)| Some((*account, *member, first(queue)?)))
        })?;
        let mut members = self.accounts.shift_remove(&account)?;
        let mut queue = members.shift_remove(&member)?;
        let waiting = queue.remove(index)?;
        if !queue.is_empty() {
            members.insert(member, queue);
        }
        if !members.is_empty() {
            self.accounts.insert(account, members);
        }
        self.waiting -= 1;
        self.taken += 1;
        *self.taken_by.entry(account).or_default() += 1;
        self.busy.insert(waiting.what.clone());
        Some((account, waiting))
    }

    /// Takes a place from the account that has most of them: the newest of the member that has most
    /// there. False if the newcomer would then have no fewer.
    fn make_room(&mut self, newcomer: Payer) -> bool {
        let count = |members: &Members<W>| members.values().map(VecDeque::len).sum::<usize>();
        let own = self.accounts.get(&newcomer.account);
        let own_count = own.map_or(0, count);
        let own_member_count = own.and_then(|own| own.get(&newcomer.member)).map_or(0, VecDeque::len);
        let Some((account, members)) = self.accounts.iter().max_by_key(|(_, members)| count(members)) else {
            return false;
        };
        let is_other = count(members) > own_count + 1;
        let (account, members) = match (is_other, own) {
            (true, _) => (*account, members),
            (false, Some(own)) => (newcomer.account, own),
            (false, None) => return false,
        };
        let Some((member, queue)) = members.iter().max_by_key(|(_, queue)| queue.len()) else { return false };
        if !is_other && queue.len() <= own_member_count + 1 {
            return false;
        }
        let Some(number) = queue.back().map(|waiting| waiting.number) else { return false };
        self.give_up(Payer { account, member: *member }, number);
        true
    }

    fn give_up(&mut self, payer: Payer, number: u64) {
        let Some(members) = self.accounts.get_mut(&payer.account) else { return };
        let Some(queue) = members.get_mut(&payer.member) else { return };
        let Some(index) = queue.iter().position(|waiting| waiting.number == number) else { return };
        queue.remove(index);
        self.waiting -= 1;
        if queue.is_empty() {
            members.shift_remove(&payer.member);
        }
        if members.is_empty() {
            self.accounts.shift_remove(&payer.account);
        }
    }
}

impl<W: Clone + Eq + Hash> Default for State<W> {
    fn default() -> Self {
        Self {
            accounts: IndexMap::new(),
            waiting: 0,
            taken: 0,
            taken_by: HashMap::new(),
            busy: HashSet::new(),
            last_number: 0,
        }
    }
}

impl<W: Clone + Eq + Hash> Place<W> {
    /// Waits for the turn.
    pub async fn turn(mut self) -> Result<Turn<W>, Full> {
        (&mut self.call).await.map_err(|_| Full)
    }
}

impl<W: Clone + Eq + Hash> Drop for Place<W> {
    fn drop(&mut self) {
        self.turns.lock().give_up(self.payer, self.number);
    }
}

impl<W: Clone + Eq + Hash> Drop for Turn<W> {
    fn drop(&mut self) {
        {
            let mut state = self.turns.lock();
            state.taken -= 1;
            state.busy.remove(&self.what);
            if let Some(taken) = state.taken_by.get_mut(&self.account) {
                *taken -= 1;
                if *taken == 0 {
                    state.taken_by.remove(&self.account);
                }
            }
        }
        self.turns.call();
    }
}
